"""The web app: a JSON API and server-rendered pages. It keeps no state of its own."""
