"""The wire format: every path and JSON key of the API, without I/O.

`endpoints` builds requests and parses responses, `paths` decides which paths are called,
`schemas` holds the JSON bodies, `messages` reads responses of any endpoint.
"""
