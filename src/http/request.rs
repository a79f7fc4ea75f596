//! (to be written)

use std::borrow::Cow;

/// Request methods (RFC 9110 §9) as far as anything here tells them apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    Get,
    Head,
    Post,
    Delete,
    Options,
    /// Any other token.
    Other,
}

/// The peer's protocol version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Version {
    Http10,
    Http11,
}

/// One complete request.
#[derive(Debug)]
pub struct Request {}

impl Request {
    pub fn method(&self) -> Method {
        todo!()
    }

    pub fn version(&self) -> Version {
        todo!()
    }

    /// The target's path, still percent-encoded, beginning with `/` (or `*`, for OPTIONS only).
    /// An absolute-form target's scheme and authority are gone.
    pub fn path(&self) -> &str {
        todo!()
    }

    /// The query without its `?`, still percent-encoded; empty when there is none.
    pub fn query(&self) -> &str {
        todo!()
    }

    /// The authority the request is for: of an absolute-form target, else of `Host`; empty in HTTP/1.0 without one.
    pub fn host(&self) -> &str {
        todo!()
    }

    /// The values of all field lines of that name (compared without case), in order, without surrounding white space.
    pub fn fields<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let _ = name;
        std::iter::empty()
    }

    /// The value of the only field line of that name; `None` if there is none or more than one.
    pub fn field<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        let mut values = self.fields(name);
        let first = values.next()?;
        values.next().is_none().then_some(first)
    }

    /// Whether a comma-separated list field (RFC 9110 §5.6.1) contains `token`, compared without case.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        let _ = (name, token);
        todo!()
    }

    /// The decoded content.
    pub fn body(&self) -> &[u8] {
        todo!()
    }

    /// Whether the connection may carry another request after this one (RFC 9112 §9.3).
    pub fn keep_alive(&self) -> bool {
        todo!()
    }
}

/// Undoes percent-encoding (RFC 3986 §2.1). `None` for a malformed escape or a result that is not UTF-8.
pub fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    let _ = text;
    todo!()
}
