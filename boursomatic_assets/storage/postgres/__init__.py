"""Tables and their migrations, one module for each table or each way of reading it."""
