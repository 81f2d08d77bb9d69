//! Kubernetes through kube-rs: nodes and workloads of one cluster.
//!
//! Guarantees: one named cluster a client, never the ambient context; nothing is ever lowered; a mutating call is
//! never retried here. Assumptions: the clock is right to within some minutes (EKS tokens carry the time).
//! Caveats: the identity needs an EKS access entry, and this Role (a ClusterRole for nodes and `/readyz`):
//!
//! ```yaml
//! rules: # ClusterRole
//!   - { apiGroups: [""], resources: [nodes, namespaces], verbs: [get, list, watch] }
//!   - { nonResourceURLs: ["/readyz"], verbs: [get] }
//! ---
//! rules: # Role, in each namespace of the topology
//!   - { apiGroups: [""], resources: [pods], verbs: [get, list] }
//!   - { apiGroups: [apps], resources: [deployments, statefulsets], verbs: [get, list, watch, patch] }
//!   - { apiGroups: [apps], resources: [deployments/scale, statefulsets/scale], verbs: [get, patch] }
//!   - { apiGroups: [autoscaling], resources: [horizontalpodautoscalers], verbs: [get, list, patch] }
//! ```

mod access;
mod convert;
mod errors;
#[cfg(test)]
mod tests;
mod token;
mod workloads;

pub use access::{Access, EksAccess};
pub use workloads::KubeWorkloads;
