"""How far what a version sees and says has moved from its baseline."""
