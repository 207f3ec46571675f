"""Parses API pages and maps each user to a record, as a Python task would. Prints a line of JSON at the end."""
import json
import sys
import time


def part(value):
    return str(value).strip()


def record(user):
    location = user["location"]
    street = location["street"]
    return {
        "id": user["login"]["uuid"],
        "first_name": user["name"]["first"],
        "last_name": user["name"]["last"],
        "gender": user["gender"],
        "address": f"{part(street['number'])} {part(street['name'])}, {part(location['city'])}, "
        f"{part(location['state'])}, {part(location['country'])}",
        "post_code": str(location["postcode"]),
        "email": user["email"],
        "username": user["login"]["username"],
        "dob": user["dob"]["date"],
        "registered_date": user.get("registered", {}).get("date"),
        "phone": user["phone"],
        "picture": user["picture"]["medium"],
    }


def main():
    length = float(sys.argv[1])
    pages = [open(path, "rb").read() for path in sys.argv[2:]]
    started, users = time.perf_counter(), 0
    while time.perf_counter() - started < length:
        for page in pages:
            users += len([record(user) for user in json.loads(page)["results"]])
    print(json.dumps({"users_per_second": users / (time.perf_counter() - started)}))


main()
