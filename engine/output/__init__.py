"""Results for people and machines: terminal table, JSON, CSV, HTML page."""
