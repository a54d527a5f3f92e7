"""Puts what blindferry-attacker found in one process, a line of JSON, into the words of the quickstart's table."""
import json
import sys

look = json.loads(sys.stdin.readline() or "null")
if look is None:
    print("not looked")
    sys.exit()
found = [surface["surface"] for surface in look["surfaces"] if surface["found"]]
# Everybody may read the arguments of a process: that alone is no way in.
read = sum(surface["bytes"] for surface in look["surfaces"] if surface["surface"] != "cmdline")
print(f"PLAINTEXT ({', '.join(found)})" if found else "ciphertext only" if read else "nothing")
