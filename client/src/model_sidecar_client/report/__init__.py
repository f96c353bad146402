"""Quality and drift as pictures: HTML and inline SVG without scripts, from anything that has the records' fields."""
