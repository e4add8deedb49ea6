"""The contract: columns, rules, and every table as a function of DataFrames."""
