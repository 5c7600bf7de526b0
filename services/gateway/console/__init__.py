"""The console: pages for a browser, of which nothing is loaded from elsewhere."""
