package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// releases of Kubernetes that can be built, with the directory of the Go module that
// requires each. The first is the default.
var releases = []struct{ version, dir string }{{"v1.37.2", "."}, {"v1.36.3", "v1.36"}}

// release returns the release to run, as MINI_KUBELET_KUBERNETES asks for, and the directory
// of its module.
func release() (version, dir string, err error) {
	wanted := os.Getenv("MINI_KUBELET_KUBERNETES")
	for _, r := range releases {
		if wanted == "" || wanted == r.version {
			return r.version, r.dir, nil
		}
	}
	return "", "", fmt.Errorf("MINI_KUBELET_KUBERNETES is %q; there are %v", wanted, releases)
}

// Version is the release of Kubernetes that Build builds and New runs.
func Version() (string, error) {
	version, _, err := release()
	return version, err
}

// programs are the programs to build, by their packages. Those of Kubernetes itself are built
// from the release's module, the others, which serve any release, from the first one's.
var programs = []string{
	upstream + "kube-apiserver", upstream + "kube-controller-manager", upstream + "kube-scheduler", upstream + "kubeadm", upstream + "kubectl",
	"sigs.k8s.io/metrics-server/cmd/metrics-server",
}

const upstream = "k8s.io/kubernetes/cmd/"

// Binaries returns the directory of the programs, with etcd in PATH. If they have
// not been built, the error says what to do.
func Binaries() (dir string, err error) {
	dir, err = cacheDir()
	if err != nil {
		return "", err
	}
	for _, p := range programs {
		if _, err := os.Stat(filepath.Join(dir, path.Base(p))); err != nil {
			return "", fmt.Errorf("the control plane's programs are not built: run `make cluster-build` (five minutes, once): %w", err)
		}
	}
	if _, err := exec.LookPath("etcd"); err != nil {
		return "", fmt.Errorf("etcd is missing: install Debian's etcd-server: %w", err)
	}
	return dir, nil
}

// cacheDir is outside of the project: a fresh clone does not build again.
func cacheDir() (string, error) {
	version, err := Version()
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find where built programs are kept: %w", err)
	}
	return filepath.Join(cache, "mini-kubelet", "kubernetes-"+version), nil
}

// Build builds what is missing, from the Go modules in moduleDir, and reports its
// progress on out. It may be called several times at once.
func Build(ctx context.Context, moduleDir string, out io.Writer) error {
	version, module, err := release()
	if err != nil {
		return err
	}
	dir, err := cacheDir()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	lock, err := os.Create(filepath.Join(dir, ".lock"))
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	own := map[string][]string{} // what is missing, by module
	for _, p := range programs {
		if _, err := os.Stat(filepath.Join(dir, path.Base(p))); err == nil {
			continue
		}
		from := releases[0].dir
		if strings.HasPrefix(p, upstream) {
			from = module
		}
		own[from] = append(own[from], p)
	}
	for from, missing := range own {
		if err := build(ctx, filepath.Join(moduleDir, from), dir, version, missing, out); err != nil {
			return err
		}
	}
	return nil
}

// build builds packages of a module into a directory, in which each appears when it is whole.
func build(ctx context.Context, module, dir, version string, packages []string, out io.Writer) error {
	fmt.Fprintf(out, "building %s for %s into %s; the first time all programs take some five minutes\n", strings.Join(packages, ", "), version, dir)
	fresh, err := os.MkdirTemp(dir, ".build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	args := append([]string{"build", "-trimpath", "-ldflags", ldflags(version), "-o", fresh + "/"}, packages...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build the control plane's programs: %w", err)
	}
	var errs []error
	for _, p := range packages {
		name := path.Base(p)
		errs = append(errs, os.Rename(filepath.Join(fresh, name), filepath.Join(dir, name)))
	}
	return errors.Join(errs...)
}

// ldflags sets the version: kubeadm compares its own with the API server's.
func ldflags(version string) string {
	minor := strings.Split(version, ".")[1]
	flags := "-s -w"
	for _, set := range []string{
		"gitVersion=" + version, "gitMajor=1", "gitMinor=" + minor, "gitTreeState=clean", "gitCommit=" + strings.Repeat("0", 40),
	} {
		flags += " -X k8s.io/component-base/version." + set
	}
	return flags
}
