//! A read-only view of our own binary (CVE-2019-5736).
