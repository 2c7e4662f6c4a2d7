"""What people take away: each trained student as a stock folder with its card; and to the hub.

Taken by module: `folders`, `upload`.
"""
