import os

from psycopg.conninfo import conninfo_to_dict

server = conninfo_to_dict(os.environ["DATABASE_URL"])

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": server.pop("dbname"),
        # Sends the bytes of an image as a parameter. Otherwise a rejected image fills the server's log.
        "OPTIONS": {**server, "server_side_binding": True},
    }
}
INSTALLED_APPS = ["shop"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
