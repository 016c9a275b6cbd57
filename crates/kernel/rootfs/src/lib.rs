//! Mounts of a container: its root, what is on it, what is hidden.
//!
//! A [`Plan`] is made from an OCI specification on the host's side, where allocating and failing are
//! cheap. Its steps are carried out by the child that becomes the container, in its own mount namespace:
//!
//! ```text
//!   host     Plan::new                     every path checked, every option parsed
//!            make_root        the root's file system, attached nowhere
//!   ───────  clone3(CLONE_NEWNS …)  ───────────────────────────────────────────────────────────
//!   child    attach_root      sources of binds cloned, the host's mounts left, root attached on "/"
//!            mount            the specification's mounts, each onto an opened target
//!            make_devices     nodes and links in /dev
//!            open_console     only with a terminal
//!            write_sysctls    through a private procfs
//!            protect          masked and read-only paths, read-only root
//!            pivot            the root becomes /, the host's tree is let go if it was there
//! ```
//!
//! With a user namespace `open_sources` comes first, outside of it, and `attach_root_as_user` then; device
//! nodes are the host's, bound.
//!
//! Invariants: nothing is attached in the host's mount namespace. A path of the container is only ever
//! opened beneath its root, and what is attached goes onto the descriptor that was opened. The child
//! allocates only where something is missing in the image, or fails.
//!
//! Needs Linux 5.12 (mount_setattr); an overlay of more layers than fit one string needs 6.7.

mod bare;
mod bind;
mod cgroups;
mod console;
mod copyup;
mod devices;
mod failure;
mod filesystem;
mod hide;
mod idmap;
mod mounts;
mod options;
mod plan;
mod root;
mod sysctl;
mod text;

pub use bare::Bare;
pub use cgroups::CgroupView;
pub use console::Console;
pub use failure::{Failure, PlanError};
pub use idmap::id_maps;
pub use options::mount_options;
pub use plan::{Inside, Plan, PlanInput, Sources, clean_path, private_procfs};
pub use root::Root;
