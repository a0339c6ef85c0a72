package agent

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/cgroup"
	"github.com/mini-kubelet/mini-kubelet/pkg/resources/kernelparams"
)

// setOOMScoreAdj makes the kernel spare the agent when memory runs out. A host
// without CAP_SYS_RESOURCE refuses to go lower than the agent was started with.
func setOOMScoreAdj(adj int32) {
	err := os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(int(adj))), 0)
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		klog.InfoS("The host does not let the agent lower its oom_score_adj (it lacks CAP_SYS_RESOURCE); the agent keeps the one it was started with", "wanted", adj)
	case err != nil:
		klog.ErrorS(err, "Could not set the agent's oom_score_adj", "wanted", adj)
	}
}

// setMaxOpenFiles raises the limit of open files, as far as the host allows. A
// limit that is already higher stays.
func setMaxOpenFiles(wanted uint64) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	if limit.Cur >= wanted {
		return nil
	}
	raised := unix.Rlimit{Cur: wanted, Max: max(wanted, limit.Max)}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) == nil {
		return nil
	}
	klog.InfoS("The host does not allow that many open files; using what it allows", "maxOpenFiles", wanted, "allowed", limit.Max)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit.Max, Max: limit.Max}); err != nil {
		return fmt.Errorf("raise the limit of open files: %w", err)
	}
	return nil
}

// setUpKernel does what the configuration says of the machine's kernel parameters.
func setUpKernel(cfg *config.Config) error {
	if cfg.ProtectKernelDefaults {
		if err := kernelparams.Check(kernelparams.Proc); err != nil {
			return fmt.Errorf("protectKernelDefaults: %w", err)
		}
		return nil
	}
	if !cfg.SetsKernelParameters() {
		return nil
	}
	if err := kernelparams.Set(kernelparams.Proc); err != nil {
		klog.InfoS("The host does not let the agent set all kernel parameters that the kubelet sets; they stay as they are", "err", err)
	}
	return nil
}

// setUpProcess does what the configuration says of the agent's own process.
func setUpProcess(cfg *config.Config) error {
	if ptr.Deref(cfg.FailCgroupV1, false) {
		if !cgroupV2() {
			return errors.New("failCgroupV1: this host has cgroup v1")
		}
	}
	if cfg.SingleProcessOOMKill != nil && !*cfg.SingleProcessOOMKill && !cgroupV2() {
		return errors.New("singleProcessOOMKill: must not be explicitly set to false when using cgroup v1")
	}
	if cfg.EnableContentionProfiling {
		runtime.SetBlockProfileRate(1)
	}
	if err := checkSwap(cfg); err != nil {
		return err
	}
	if err := setUpKernel(cfg); err != nil {
		return err
	}
	if path := cfg.KubeletCgroups; path != "" {
		if err := cgroup.Enter(path, os.Getpid()); err != nil { // as with the kubelet, no reason to leave the pods alone
			klog.ErrorS(err, "kubeletCgroups cannot be honoured: the agent stays in the cgroup that it was started in")
		}
	}
	setOOMScoreAdj(ptr.Deref(cfg.OOMScoreAdj, -999))
	return setMaxOpenFiles(uint64(cfg.MaxOpenFiles))
}

// tellCgroupV1 says of a node with cgroup v1 what a stock one says of itself.
func tellCgroupV1(event journal.NodeEvent) {
	if !cgroupV2() {
		event.Warn("CgroupV1", "cgroup v1 detected. cgroup v1 support is deprecated and will be removed in a future release. "+
			"Please migrate to cgroup v2. More information at https://git.k8s.io/enhancements/keps/sig-node/5573-remove-cgroup-v1")
	}
}

// cgroupV2 reports whether the host has only cgroup v2.
func cgroupV2() bool {
	_, err := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	return err == nil
}

// sameDevice reports whether two directories are on the same file system. If that
// cannot be found out, they count as if they were.
func sameDevice(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	if errX != nil || errY != nil {
		return true
	}
	return x.Sys().(*syscall.Stat_t).Dev == y.Sys().(*syscall.Stat_t).Dev
}
