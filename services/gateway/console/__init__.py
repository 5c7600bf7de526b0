"""The console: a web page for operators. It loads nothing from other hosts."""
