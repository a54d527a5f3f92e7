"""A program that knows nothing of Blindferry: reads a token from a file, uses it, says what it got, and stays a while.

    worker.py URL SECONDS      with ${..._FILE} in its environment naming the token's file
"""
import os
import sys
import time
import urllib.error
import urllib.request


def main(url, seconds):
    (path,) = (value for name, value in os.environ.items() if name.endswith("_FILE"))
    with open(path, encoding="ascii") as file:
        token = file.read()
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            print(answer.read().decode().strip(), flush=True)
    except urllib.error.URLError as error:
        print(f"worker: {url}: {error}", file=sys.stderr)
        return 1
    time.sleep(float(seconds))  # holding the token
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
