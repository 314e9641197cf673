"""Client certificates for TLS, and why a TLS connection to Redis is refused."""

import socket
import ssl
from pathlib import Path
from typing import Final

from cardtoken import names

#: Seconds that a server is given to say why it refuses.
_PATIENCE: Final = 1.0

_NEEDS_CERTIFICATE: Final = (
    "wants a client certificate: set REDIS_CERT_FILE and REDIS_KEY_FILE (cert_file and key_file of a client)"
)
_WRONG_CERTIFICATE: Final = (
    "does not accept the client certificate in REDIS_CERT_FILE (cert_file of a client): "
    "use one that its authority has signed and that has not expired"
)
_NOT_VERIFIED: Final = (
    "has a certificate that cannot be verified. Set REDIS_CA_FILE (ca_file of a client) to the PEM file of the "
    "authority that signed it, and use the host name that it is for"
)
NOT_SPOKEN: Final = "does not speak TLS at this port: write redis:// instead of rediss://, or name its TLS port"
WANTED: Final = "wants TLS at this port: write rediss:// instead of redis://, or name its port without TLS"

#: OpenSSL's reasons that a server refuses a client's certificate, beside those that end like these.
_REFUSED: Final = ("_CERTIFICATE", "CERTIFICATE_UNKNOWN", "CERTIFICATE_EXPIRED", "CERTIFICATE_REVOKED", "UNKNOWN_CA")


def check_certificate(cert_file: Path | None, key_file: Path | None) -> None:
    """Raise ValueError, without a file's content, where these are no certificate and its key."""
    if cert_file is None:
        if key_file is not None:
            raise ValueError("a key is given without its certificate")
        return
    for path in (cert_file, key_file):
        if path is not None:
            try:
                check_readable(path)
            except ValueError as error:
                raise ValueError(f"{path} {error}") from None
    try:
        ssl.create_default_context().load_cert_chain(cert_file, key_file, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError("the key does not belong to the certificate") from None
        if key_file is None:
            raise ValueError("the certificate's file holds no key, and no file of the key is given") from None
        raise ValueError("certificate or key is not in PEM form") from None


def check_readable(path: Path) -> None:
    """Raise ValueError for a file that cannot be read."""
    try:
        path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None


def _no_password() -> str:
    # OpenSSL would ask for it on the terminal.
    raise ValueError("the key is encrypted; give one without a passphrase, readable by this user alone")


def refusal(error: BaseException | None, *, with_certificate: bool) -> str | None:
    """Why TLS failed, as what the server does; None where the error does not say, or time may mend it."""
    reason = _reason(error)
    if reason is None:
        return None
    if reason == "CERTIFICATE_VERIFY_FAILED":
        return _NOT_VERIFIED
    if reason in {"WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}:
        return NOT_SPOKEN
    if reason.endswith("CERTIFICATE_REQUIRED") or (reason.endswith("HANDSHAKE_FAILURE") and not with_certificate):
        return _NEEDS_CERTIFICATE
    if "ALERT" in reason and reason.endswith(_REFUSED):
        return _WRONG_CERTIFICATE if with_certificate else _NEEDS_CERTIFICATE
    return None


def _reason(error: BaseException | None) -> str | None:
    while error is not None:
        if isinstance(error, ssl.SSLError) and error.reason:
            return error.reason
        error = error.__cause__ or error.__context__
    return None


def alert(host: str, port: int, *, ca_file: str | None, cert_file: str | None, key_file: str | None) -> OSError | None:
    """What a server says to this client that only listens; None where that is nothing bad. Takes 4 seconds at most.

    A server that refuses a certificate closes the connection, and a client that was writing may see that before it
    reads the reason.
    """
    try:
        context = ssl.create_default_context()
        if cert_file is not None:
            context.load_cert_chain(cert_file, key_file)
        if ca_file is not None:
            context.load_verify_locations(ca_file)
        with _connected(host, port) as plain, context.wrap_socket(plain, server_hostname=host) as tls:
            tls.recv(1)
    except TimeoutError:
        return None
    except OSError as error:
        return error
    return None


def speaks_tls(host: str, port: int) -> bool:
    """Whether a server that ends connections without TLS takes them with it, or says in TLS that it does not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Nothing is sent, and nothing believed but that it is TLS.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _connected(host, port) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except OSError:
        return False


def speaks_plain(host: str, port: int) -> bool:
    """Return whether a server that is silent with TLS answers without."""
    try:
        with _connected(host, port) as plain:
            plain.sendall(b"PING\r\n")
            return plain.recv(1) in (b"+", b"-")
    except OSError:
        return False


def _connected(host: str, port: int) -> socket.socket:
    address = names.resolve(host, port, _PATIENCE)[0][4][:2]
    return socket.create_connection(address, _PATIENCE)


def unexplained(error: BaseException | None) -> bool:
    """Whether a connection was closed without a reason, so that :func:`alert` may bring it."""
    while error is not None:
        if isinstance(error, ConnectionError | ssl.SSLEOFError) and not isinstance(error, ConnectionRefusedError):
            return True
        if "closed by server" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
