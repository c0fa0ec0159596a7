//! What hyper, the operating system, rustls and the resolver say, as faults that a person can act on.
//!
//! The texts reach clients, so they name no host, address or certificate.

use std::error::Error;
use std::io;

use rustls::CertificateError;

use super::wire::TooManyInterim;
use crate::fault::{Fault, FaultKind, Retry};

/// The connection ended before an answer began.
pub(super) fn closed() -> Fault {
    Fault::new(FaultKind::Unreachable, "connection closed before the answer")
}

/// A connection could not be opened.
pub(super) fn connecting(error: &io::Error) -> Fault {
    // EMFILE and ENFILE on all Unix systems.
    if matches!(error.raw_os_error(), Some(23 | 24)) {
        return Fault::new(FaultKind::Unavailable, "out of file descriptors");
    }
    Fault::new(
        FaultKind::Unreachable,
        match error.kind() {
            io::ErrorKind::ConnectionRefused => "connection refused",
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => "connection reset",
            io::ErrorKind::HostUnreachable => "no route to the host",
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => "network unreachable",
            io::ErrorKind::TimedOut => "connection attempt timed out",
            io::ErrorKind::AddrNotAvailable => "no local address or port left",
            _ => "connection failed",
        },
    )
}

/// The TLS handshake failed. Trying again at the same place would end the same way.
pub(super) fn handshake(error: &io::Error) -> Fault {
    let text = match source::<rustls::Error>(error) {
        Some(error) => tls(error),
        None => match error.kind() {
            io::ErrorKind::UnexpectedEof => "tls: connection closed during the handshake",
            io::ErrorKind::ConnectionReset => "tls: connection reset during the handshake",
            _ => "tls: handshake failed",
        },
    };
    Fault::new(FaultKind::Unreachable, text).retry(Retry::Elsewhere)
}

fn tls(error: &rustls::Error) -> &'static str {
    use rustls::Error as E;
    match error {
        E::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "tls: certificate expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "tls: certificate not valid yet"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "tls: certificate is for another name"
            }
            CertificateError::UnknownIssuer => "tls: certificate of an unknown issuer",
            CertificateError::Revoked => "tls: certificate revoked",
            CertificateError::BadSignature => "tls: certificate with a bad signature",
            _ => "tls: certificate refused",
        },
        E::PeerIncompatible(_) | E::AlertReceived(rustls::AlertDescription::ProtocolVersion) => {
            "tls: no common protocol version or cipher"
        }
        E::AlertReceived(_) => "tls: the peer refused the handshake",
        E::InvalidMessage(_) => "tls: the peer does not speak tls",
        _ => "tls: handshake failed",
    }
}

/// A name could not be resolved.
pub(super) fn resolving(error: &io::Error) -> Fault {
    // The standard library gives getaddrinfo's errors as text only.
    let text = error.to_string();
    if text.contains("Temporary failure") || text.contains("try again") {
        return Fault::new(FaultKind::Unreachable, "dns: temporary failure");
    }
    Fault::new(FaultKind::Unreachable, "dns: no such host").retry(Retry::Elsewhere)
}

/// No head of an answer. `silent`: not a byte of it came.
pub(super) fn answering(error: &hyper::Error, silent: bool) -> Fault {
    if source::<TooManyInterim>(error).is_some() {
        return Fault::new(FaultKind::Malformed, "more than 16 interim answers");
    }
    if error.is_parse() {
        return Fault::new(FaultKind::Malformed, parsing(error));
    }
    if let Some(error) = source::<h2::Error>(error) {
        return stream(error);
    }
    if error.is_user() {
        return Fault::new(FaultKind::Internal, "the request could not be written");
    }
    let reset = source::<io::Error>(error).is_some_and(is_reset);
    match (silent, reset) {
        (true, true) => Fault::new(FaultKind::Unreachable, "connection reset before the answer"),
        (true, false) => closed(),
        (false, _) => Fault::new(FaultKind::Truncated, "connection closed within the answer's head"),
    }
}

fn parsing(error: &hyper::Error) -> &'static str {
    // hyper keeps this distinction for servers' ears; the text is stable since 0.12.
    if error.to_string().contains("too large") {
        "the answer's head exceeds 64 KiB or 100 headers"
    } else if error.is_parse_status() {
        "the answer's status is not one"
    } else {
        "the answer is not http"
    }
}

/// The body broke off.
pub(super) fn reading(error: &hyper::Error) -> Fault {
    if let Some(error) = source::<h2::Error>(error) {
        return Fault::new(
            FaultKind::Truncated,
            if error.is_io() {
                "connection closed within the answer"
            } else {
                "stream reset within the answer"
            },
        );
    }
    let Some(error) = source::<io::Error>(error) else { return truncated() };
    match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => {
            Fault::new(FaultKind::Malformed, "the answer's chunks are malformed")
        }
        _ if is_reset(error) => Fault::new(FaultKind::Truncated, "connection reset within the answer"),
        _ => truncated(),
    }
}

/// The body ended before its announced end.
pub(super) fn truncated() -> Fault {
    Fault::new(FaultKind::Truncated, "connection closed within the answer")
}

/// Whether the peer says by HTTP/2 that it did not work on the request.
pub(super) fn is_unprocessed(error: &h2::Error) -> bool {
    let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
    // Streams up to the last one that a GOAWAY names go on; only those beyond fail with it.
    error.is_remote() && (refused || error.is_go_away())
}

fn stream(error: &h2::Error) -> Fault {
    if is_unprocessed(error) {
        return Fault::new(FaultKind::Unreachable, "the upstream refused the stream");
    }
    if error.is_remote() {
        return Fault::new(FaultKind::Unreachable, "stream reset before the answer");
    }
    Fault::new(FaultKind::Malformed, "the answer is not http/2")
}

fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted
    )
}

/// The first error of type `E` among the causes of `error`, also inside of I/O errors.
pub(super) fn source<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
