"""Charts in the page's style."""
