"""The tables: one function a table, named as the table, its body the table's definition."""
