"""When a version is rolled back without being told to, and what runs beside the live one to know."""
