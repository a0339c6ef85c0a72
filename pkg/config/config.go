// Package config turns the kubelet's command line and its KubeletConfiguration
// file (kubelet.config.k8s.io/v1beta1, the upstream type) into one checked value
// that the agent is built from:
//
//	file, drop-ins ─▶ decode ─┐
//	                          ├─▶ default ─▶ validate ─▶ Config, warnings
//	command line ─▶ Flags ────┘   (flags win)
//
// Two tables list what is known: fields (fields.go) and flags (flagtable.go). What is in
// neither is an error that names it and its line; what the kubelet knows and this agent does
// not act on is one warning. The command and the agent call this package; it starts nothing
// and, except for the files it is told to read, touches nothing. The room options reads
// options that have a grammar of their own.
package config

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

// Config is the agent's whole configuration: the defaulted KubeletConfiguration,
// and what the kubelet takes only as flags. It does not change after Load.
type Config struct {
	kubeletconfig.KubeletConfiguration

	// NodeName is --hostname-override or the host's name, in lower case.
	NodeName string
	// NodeIPs are --node-ip, primary first; empty: the agent chooses.
	NodeIPs       []string
	CloudProvider string // "external", or "" for none
	// NodeLabels are --node-labels, set on the node object at registration.
	NodeLabels map[string]string
	// RootDir holds the pods' directories and the agent's lock; /var/lib/kubelet.
	RootDir string
	// CertDir holds certificates that the agent makes or requests; RootDir/pki.
	CertDir string
	// Kubeconfig and BootstrapKubeconfig say how to reach the API server. Without
	// either, the agent runs standalone.
	Kubeconfig          string
	BootstrapKubeconfig string

	// DockerEndpoint is where the in-process dockershim finds Docker.
	DockerEndpoint string
	// DockershimRootDir holds the dockershim's checkpoints; /var/lib/dockershim.
	DockershimRootDir string
	// DockershimSocket is where the dockershim serves CRI; unix:///var/run/dockershim.sock.
	DockershimSocket string
	// RuntimeCgroups is the cgroup of the container runtime; empty: looked for.
	RuntimeCgroups string
	// PodInfraContainerImage is the sandbox image. Empty: the built-in one.
	PodInfraContainerImage string
	// ImagePullProgressDeadline cancels a pull that makes no progress for that long.
	ImagePullProgressDeadline time.Duration

	// NetworkPlugin is "docker", "cni" or "kubenet". Empty, on a standalone node only: cni if
	// CNIConfDir has a configuration at start, else docker.
	NetworkPlugin     string
	NetworkPluginMTU  int32  // of kubenet's bridge; 0: the kernel's for a bridge
	KubenetBridge     string // cbr0
	CNIConfDir        string
	CNIBinDirs        []string
	CNICacheDir       string
	NonMasqueradeCIDR string

	// CDISpecDirs are where the dockershim reads CDI files for a Docker that gives no CDI devices itself.
	CDISpecDirs []string

	// MinimumContainerTTL is the least time that a dead container is kept.
	MinimumContainerTTL time.Duration
	// MaxDeadPerContainer and MaxDeadContainers limit how many dead containers are
	// kept, per container of a pod and on the node; negative: no limit.
	MaxDeadPerContainer int32
	MaxDeadContainers   int32

	// ImageCredentialProviderConfig and BinDir name the exec credential providers.
	ImageCredentialProviderConfig string
	ImageCredentialProviderBinDir string

	// ShowPods describes on standard output, in plain words, whenever something changes
	// in what runs.
	ShowPods bool
	// Teach holds each step until a person lets it go on.
	Teach bool
	// ManifestValidation is ManifestStrict or ManifestWarn.
	ManifestValidation string
	// LockFile is waited for at the start and held; ExitOnLockContention ends the agent when
	// somebody else opens it.
	LockFile             string
	ExitOnLockContention bool
	// IgnoreEvictionInAllocatable leaves hard eviction thresholds out of allocatable.
	IgnoreEvictionInAllocatable bool
	// KernelSettings is KernelSet or KernelLeave; empty: KernelSet in a cluster.
	KernelSettings string

	origins origins
	flags   *Flags // that it was loaded by
}

// Defaults of what is not part of KubeletConfiguration.
const (
	DefaultRootDir           = "/var/lib/kubelet"
	DefaultDockerEndpoint    = "unix:///var/run/docker.sock"
	DefaultDockershimRootDir = "/var/lib/dockershim"
	DefaultDockershimSocket  = "unix:///var/run/dockershim.sock"
	// ManifestStrict refuses a manifest with an unknown or doubled field; ManifestWarn drops the
	// field with a warning, where the kubelet drops it in silence.
	ManifestStrict = "strict"
	ManifestWarn   = "warn"
	// KernelSet sets the kernel parameters that the kubelet sets, KernelLeave leaves them as they
	// are.
	KernelSet   = "set"
	KernelLeave = "leave"
	// NoSwap and LimitedSwap are the values of memorySwap.swapBehavior; empty means NoSwap.
	NoSwap      = "NoSwap"
	LimitedSwap = "LimitedSwap"
	// DefaultReadOnlyPort is served in standalone mode unless configured otherwise.
	DefaultReadOnlyPort = 10255
)

// newConfig returns a Config whose flag-only settings have their defaults and
// whose KubeletConfiguration is empty.
func newConfig() *Config {
	return &Config{
		RootDir:                   DefaultRootDir,
		DockerEndpoint:            DefaultDockerEndpoint,
		DockershimRootDir:         DefaultDockershimRootDir,
		DockershimSocket:          DefaultDockershimSocket,
		ImagePullProgressDeadline: time.Minute,
		CNIConfDir:                "/etc/cni/net.d",
		CNIBinDirs:                []string{"/opt/cni/bin", "/usr/lib/cni"},
		CNICacheDir:               "/var/lib/cni/cache",
		NonMasqueradeCIDR:         "10.0.0.0/8",
		CDISpecDirs:               []string{"/etc/cdi", "/var/run/cdi"},
		KubenetBridge:             "cbr0",
		MaxDeadPerContainer:       1,
		MaxDeadContainers:         -1,
		ManifestValidation:        ManifestStrict,
		origins:                   origins{},
	}
}

// Load reads a whole command line (without the program's name) and the files that
// it names. Warnings are one sentence each, to be shown once.
func Load(args []string) (cfg *Config, warnings []string, err error) {
	fs := pflag.NewFlagSet("mini-kubelet", pflag.ContinueOnError)
	fs.SetOutput(discard{})
	var flags Flags
	flags.AddTo(fs)
	if err := fs.Parse(args); err != nil {
		return nil, nil, err
	}
	if fs.NArg() > 0 {
		return nil, nil, fmt.Errorf("unknown argument %q", fs.Arg(0))
	}
	return flags.Load()
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// Load reads the files that the parsed flags name, lets the flags override them,
// sets defaults and validates. It may be called once fs.Parse has succeeded.
func (f *Flags) Load() (cfg *Config, warnings []string, err error) {
	cfg = newConfig()
	files, err := f.files()
	if err != nil {
		return nil, nil, err
	}
	for _, name := range files {
		if err := readFile(cfg, name); err != nil {
			return nil, nil, err
		}
	}
	for _, a := range f.set {
		if err := a.flag.apply(cfg, a.value); err != nil {
			return nil, nil, fmt.Errorf("--%s: %w", a.flag.name, err)
		}
		if a.flag.field != "" {
			cfg.origins[a.flag.field] = "--" + a.flag.name
		} else {
			cfg.origins["--"+a.flag.name] = "--" + a.flag.name
		}
	}
	if err := cfg.complete(); err != nil {
		return nil, nil, err
	}
	if err := cfg.validate(); err != nil {
		return nil, nil, err
	}
	cfg.flags = f
	return cfg, cfg.warnings(f), nil
}

// complete fills in what was not set.
func (c *Config) complete() error {
	if c.NodeName == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("find the host's name, or set --hostname-override: %w", err)
		}
		c.NodeName = host
	}
	c.NodeName = strings.ToLower(strings.TrimSpace(c.NodeName))
	if c.CertDir == "" {
		c.CertDir = filepath.Join(c.RootDir, "pki")
	}
	setDefaults(c)
	c.NetworkPlugin = networkPlugin(c.NetworkPlugin, c.Standalone())
	// Relative paths of flags refer to the caller's working directory; those of files have been resolved.
	// It is done once, so that a later change of directory cannot change them.
	var err error
	for _, p := range append(c.paths(), &c.RootDir, &c.CertDir, &c.DockershimRootDir, &c.Kubeconfig, &c.BootstrapKubeconfig, &c.LockFile,
		&c.ImageCredentialProviderConfig, &c.ImageCredentialProviderBinDir) {
		if *p == "" {
			continue
		}
		if *p, err = filepath.Abs(*p); err != nil {
			return fmt.Errorf("make %q absolute: %w", *p, err)
		}
	}
	return nil
}

// Standalone reports whether the agent works without an API server.
func (c *Config) Standalone() bool { return c.Kubeconfig == "" && c.BootstrapKubeconfig == "" }

// SetsKernelParameters reports whether the agent sets parameters of the machine's kernel. On a standalone
// node, often a developer's machine, nobody counts on them.
func (c *Config) SetsKernelParameters() bool {
	if c.KernelSettings == "" {
		return !c.Standalone()
	}
	return c.KernelSettings == KernelSet
}

// RuntimeEndpoint is where CRI is reached: the configured endpoint, or the
// in-process dockershim's socket.
func (c *Config) RuntimeEndpoint() string {
	if c.ContainerRuntimeEndpoint != "" {
		return c.ContainerRuntimeEndpoint
	}
	return c.DockershimSocket
}

// ImageEndpoint is where the CRI image service is reached.
func (c *Config) ImageEndpoint() string {
	if c.ImageServiceEndpoint != "" {
		return c.ImageServiceEndpoint
	}
	return c.RuntimeEndpoint()
}

// InProcessDockershim reports whether the agent runs the dockershim itself, which
// is also so if the endpoint names the dockershim's own socket, as kubeadm does.
func (c *Config) InProcessDockershim() bool {
	return c.ContainerRuntimeEndpoint == "" || c.ContainerRuntimeEndpoint == c.DockershimSocket
}

// HealthzListen is the host:port of the health endpoint, "" if it is off.
func (c *Config) HealthzListen() string {
	if c.HealthzPort == nil || *c.HealthzPort == 0 {
		return ""
	}
	return hostPort(c.HealthzBindAddress, *c.HealthzPort)
}

// APIListen is the host:port of the kubelet API, protected by TLS and
// authentication.
func (c *Config) APIListen() string { return hostPort(c.Address, c.Port) }

// ReadOnlyListen is the host:port of the port without authentication, "" if it is
// off. In standalone mode it stays on loopback, unless both address and
// readOnlyPort were set explicitly: a port that is open by default must not be open
// to the network.
func (c *Config) ReadOnlyListen() string {
	if c.ReadOnlyPort == 0 {
		return ""
	}
	if c.Standalone() && !(c.origins.has("address") && c.origins.has("readOnlyPort")) {
		return hostPort("127.0.0.1", c.ReadOnlyPort)
	}
	return hostPort(c.Address, c.ReadOnlyPort)
}

// LocalSocket is where the agent with that root directory serves its API to the machine's
// administrator.
func LocalSocket(rootDir string) string {
	return filepath.Join(rootDir, "mini-kubelet", "api", "agent.sock")
}

func hostPort(host string, port int32) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// origins maps what was set (a field's path, or a flag without a field) to where:
// "file:line" or "--flag".
type origins map[string]string

// has reports whether the field or anything in it was set.
func (o origins) has(path string) bool {
	if _, ok := o[path]; ok {
		return true
	}
	for p := range o {
		if strings.HasPrefix(p, path+".") || strings.HasPrefix(p, path+"[") {
			return true
		}
	}
	return false
}

// forget takes a field, and all that is in it, as not set.
func (o origins) forget(path string) {
	for p := range o {
		if p == path || strings.HasPrefix(p, path+".") || strings.HasPrefix(p, path+"[") {
			delete(o, p)
		}
	}
}

// at returns the place and the field of a problem: "kubelet.yaml:3: maxPods" or
// "--max-pods"; only the field if nobody set it.
func (o origins) at(path string) string {
	for p := path; p != ""; {
		switch place := o[p]; {
		case strings.HasPrefix(place, "--"):
			return place
		case place != "":
			return place + ": " + path
		}
		i := strings.LastIndexAny(p, ".[")
		if i < 0 {
			break
		}
		p = p[:i]
	}
	return path
}

// errs joins problems, one per line.
func errs(list []error) error { return errors.Join(list...) }
