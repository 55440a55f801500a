"""harm.py DATABASE STATEMENT...: what somebody with the file in hand does to it, with `flip(bytes, place)` at hand."""
import sqlite3
import sys


def flip(data, place):
    place %= len(data)
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


database = sqlite3.connect(sys.argv[1])
database.create_function("flip", 2, flip)
for statement in sys.argv[2:]:
    for row in database.execute(statement):
        print(*row, sep="|")
database.commit()
database.close()
