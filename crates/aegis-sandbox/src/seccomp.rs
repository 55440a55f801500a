//! The two seccomp filters of every sandbox, compiled once.
//!
//! The first is an allowlist whose default is ENOSYS: C libraries fall back to older calls on exactly that error
//! (`clone3` must answer nothing else), and calls of foreign numberings (x32) are not let through. The second names
//! what is refused with EPERM. The kernel answers with the later filter's errno.

#[cfg(target_arch = "x86_64")]
mod table;

/// The filters as the kernel's `struct sock_filter` arrays, in the order in which they are loaded.
#[derive(Debug)]
pub(crate) struct Filters {
    /// The allowlist.
    pub(crate) allow: Vec<u8>,
    /// The denylist.
    pub(crate) deny: Vec<u8>,
}

#[cfg(not(target_arch = "x86_64"))]
impl Filters {
    /// There is no table for this architecture.
    pub(crate) fn compile() -> Result<Self, String> {
        Err(format!(
            "the system call filter is written for x86_64, this machine is {}; use another isolation",
            std::env::consts::ARCH
        ))
    }
}

#[cfg(target_arch = "x86_64")]
mod compile {
    use std::collections::BTreeMap;

    use seccompiler::SeccompCmpArgLen::{Dword, Qword};
    use seccompiler::{
        BackendError, BpfProgram, SeccompAction, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
        TargetArch,
    };

    use super::{Filters, table};

    /// All `CLONE_NEW*` flags that `clone(2)` takes.
    const CLONE_NEW_ANY: u64 = 0x7E02_0000;
    /// Pushes bytes into a terminal's input.
    const TIOCSTI: u64 = 0x5412;
    /// Pastes a virtual console's selection.
    const TIOCLINUX: u64 = 0x541c;
    const AF_UNIX: u64 = 1;
    const AF_INET: u64 = 2;
    const AF_INET6: u64 = 10;
    const AF_NETLINK: u64 = 16;
    const NETLINK_ROUTE: u64 = 0;

    impl Filters {
        /// Compiles both filters.
        pub(crate) fn compile() -> Result<Self, String> {
            let failed = |error: BackendError| format!("the system call filter does not compile: {error}");
            Ok(Self { allow: bytes(&allow().map_err(failed)?), deny: bytes(&deny().map_err(failed)?) })
        }
    }

    fn allow() -> Result<BpfProgram, BackendError> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
            table::ALLOWED.iter().map(|&number| (number, Vec::new())).collect();
        let no_namespace = SeccompCondition::new(0, Qword, SeccompCmpOp::MaskedEq(CLONE_NEW_ANY), 0)?;
        rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![no_namespace])?]);
        rules.insert(libc::SYS_ioctl, vec![SeccompRule::new(vec![not(1, TIOCSTI)?, not(1, TIOCLINUX)?])?]);
        let missing = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
        SeccompFilter::new(rules, missing, SeccompAction::Allow, TargetArch::x86_64)?.try_into()
    }

    fn deny() -> Result<BpfProgram, BackendError> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
            table::REFUSED.iter().map(|&number| (number, Vec::new())).collect();
        let foreign_family = SeccompRule::new(vec![
            not(0, AF_UNIX)?,
            not(0, AF_INET)?,
            not(0, AF_INET6)?,
            not(0, AF_NETLINK)?,
        ])?;
        let is_netlink = SeccompCondition::new(0, Dword, SeccompCmpOp::Eq, AF_NETLINK)?;
        let foreign_netlink = SeccompRule::new(vec![is_netlink, not(2, NETLINK_ROUTE)?])?;
        rules.insert(libc::SYS_socket, vec![foreign_family, foreign_netlink]);
        rules.insert(libc::SYS_socketpair, vec![SeccompRule::new(vec![not(0, AF_UNIX)?])?]);
        let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        SeccompFilter::new(rules, SeccompAction::Allow, refused, TargetArch::x86_64)?.try_into()
    }

    /// Argument `index`, as the kernel's 32-bit `int`, is not `value`.
    fn not(index: u8, value: u64) -> Result<SeccompCondition, BackendError> {
        SeccompCondition::new(index, Dword, SeccompCmpOp::Ne, value)
    }

    /// The program in the layout of `struct sock_filter` (linux/filter.h): u16, u8, u8, u32, native byte order.
    fn bytes(program: &BpfProgram) -> Vec<u8> {
        program
            .iter()
            .flat_map(|step| {
                let [code_a, code_b] = step.code.to_ne_bytes();
                let [k_a, k_b, k_c, k_d] = step.k.to_ne_bytes();
                [code_a, code_b, step.jt, step.jf, k_a, k_b, k_c, k_d]
            })
            .collect()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn no_call_is_both_allowed_and_refused() {
            for number in table::REFUSED {
                assert!(!table::ALLOWED.contains(number), "{number} is in both lists");
            }
        }

        #[test]
        fn clone3_is_not_allowed() {
            assert!(!table::ALLOWED.contains(&libc::SYS_clone3));
            assert!(!table::REFUSED.contains(&libc::SYS_clone3), "its answer must be ENOSYS");
        }

        #[test]
        fn the_programs_fit_the_kernel() {
            const BPF_MAXINSNS: usize = 4096;
            let filters = Filters::compile().unwrap();
            for program in [&filters.allow, &filters.deny] {
                assert_eq!(program.len() % 8, 0);
                assert!((1..=BPF_MAXINSNS).contains(&(program.len() / 8)));
            }
        }
    }
}
