// Package controlplane runs a real Kubernetes control plane on this machine, for
// the end-to-end tests, the benchmark and `make cluster-up`: etcd and upstream's
// kube-apiserver, kube-controller-manager and kube-scheduler, with certificates,
// RBAC and ConfigMaps as kubeadm lays them out, made by kubeadm's own phases.
//
// The programs are built once from k8s.io/kubernetes, in the Go module
// test/cluster, and kept outside of the project (see Binaries).
package controlplane
