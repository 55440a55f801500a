"""What can go wrong."""


class TransportError(Exception):
    """The node could not be reached, or the connection ended."""


class ProtocolError(Exception):
    """The node answered something that is not of this protocol."""


class SmcpError(Exception):
    """The node refused.

    `code` and `name` are those of the protocol, such as 2002 and `PATH_NOT_ALLOWED`; `reason` is the stable name of a
    denial that has no code of its own; `request_id` is the refused request's.
    """

    def __init__(self, code, name, message, request_id=None, reason=None):
        super().__init__("%s (%s): %s" % (name, code, message))
        self.code = code
        self.name = name
        self.message = message
        self.request_id = request_id
        self.reason = reason
