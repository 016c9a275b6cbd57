//! unshare and setns.
