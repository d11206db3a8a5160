"""Reports: tables for the terminal, figures, a trace for Perfetto, rows as JSON, one HTML page."""
