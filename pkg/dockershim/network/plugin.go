package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containernetworking/cni/libcni"
	"github.com/docker/docker/client"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/network/cni"
	"github.com/mini-kubelet/mini-kubelet/pkg/dockershim/network/kubenet"
)

// What a plug-in must know of a sandbox, and what it returns, is in CNI's terms.
type (
	Sandbox   = cni.Sandbox
	Port      = cni.Port
	Bandwidth = cni.Bandwidth
	DNS       = cni.DNS
	Result    = cni.Result
)

// Names of the plug-ins, as --network-plugin takes them.
const (
	Docker  = "docker"
	CNI     = "cni"
	Kubenet = "kubenet"
)

// Plugin attaches sandboxes to the pod network.
type Plugin interface {
	// Name is the plug-in's name, as --network-plugin takes it.
	Name() string
	// EngineMode is the Docker network mode with which a sandbox is created:
	// "none" when SetUp attaches it, else one of the engine's networks.
	EngineMode() string
	// Status returns nil when sandboxes can be attached, else why not.
	Status(ctx context.Context) error
	// Warning says in one sentence what will hinder traffic although sandboxes can be
	// attached; "" when no hindrance is known.
	Warning() string
	// SetUp attaches a running sandbox by the path of its network namespace and returns its
	// addresses, the primary one first. When it fails, nothing stays attached.
	SetUp(ctx context.Context, s Sandbox, netns string) (Result, error)
	// Check fails unless the attachment still is as SetUp left it.
	Check(ctx context.Context, id, netns string) error
	// TearDown detaches a sandbox; netns is "" when its process is gone. It succeeds for a
	// sandbox that is not attached. After an error it must be called again.
	TearDown(ctx context.Context, id, netns string) error
	// Result is what SetUp returned, even before a restart of the program; attached is false
	// when the sandbox is not attached, or is attached by the engine. An error means that this
	// cannot be told at the moment.
	Result(id string) (r Result, attached bool, err error)
	// UpdatePodCIDR sets the node's pod CIDR: one, or one of each family separated by a comma.
	UpdatePodCIDR(cidr string) error
	// Reconcile detaches sandboxes that do not exist any more. It returns an error for those
	// that could not be detached, and must then be called again.
	Reconcile(ctx context.Context, exists func(id string) bool) error
	// Run follows the plug-in's configuration until ctx ends.
	Run(ctx context.Context) error
}

// Config is what a plug-in is built from.
type Config struct {
	// Plugin is its name; empty: cni where ConfDir holds a configuration, else docker. That is
	// decided once: who expects a configuration later names the plug-in.
	Plugin            string
	Docker            *client.Client
	ConfDir           string
	BinDirs           []string
	CacheDir          string // kubenet's addresses are in networks beside it
	StateDir          string // for a record of each attachment
	KubenetRecord     string // file of what kubenet has made on this machine
	HairpinMode       string
	NonMasqueradeCIDR string
	MTU               int    // kubenet's
	KubenetBridge     string // cbr0 where empty
}

// New returns the plug-in that the configuration names.
func New(cfg Config) (Plugin, error) {
	switch cfg.Plugin {
	case "":
		cfg.Plugin = Docker
		if files, err := libcni.ConfFiles(cfg.ConfDir, []string{".conf", ".conflist", ".json"}); err == nil && len(files) > 0 {
			cfg.Plugin = CNI
		}
		klog.InfoS("The network plug-in, as none was named", "plugin", cfg.Plugin, "cniConfDir", cfg.ConfDir)
		return New(cfg)
	case Docker:
		return newDocker(cfg), nil
	case CNI:
		return newCNI(cfg)
	case Kubenet:
		return newKubenet(cfg)
	}
	return nil, fmt.Errorf("network plug-in %q: want %s, %s or %s", cfg.Plugin, Docker, CNI, Kubenet)
}

// attacher is the common part of the plug-ins that use CNI.
type attacher struct {
	*cni.Driver
	network cni.Configuration
}

func newAttacher(cfg Config, network cni.Configuration) (attacher, error) {
	driver, err := cni.New(cni.Config{Network: network, BinDirs: cfg.BinDirs, CacheDir: cfg.CacheDir, StateDir: cfg.StateDir})
	return attacher{driver, network}, err
}

func (attacher) EngineMode() string { return "none" }

func (a attacher) SetUp(ctx context.Context, s Sandbox, netns string) (Result, error) {
	return a.Add(ctx, s, netns)
}

func (a attacher) TearDown(ctx context.Context, id, netns string) error { return a.Del(ctx, id, netns) }

func (a attacher) Warning() string {
	list, err := a.network.Network()
	if err != nil {
		return ""
	}
	return cni.ForwardProblem(list)
}

type cniPlugin struct {
	attacher
	dir *cni.Dir

	mu     sync.Mutex
	ranges [][]cni.IPRange
}

func newCNI(cfg Config) (Plugin, error) {
	dir := cni.NewDir(cfg.ConfDir)
	a, err := newAttacher(cfg, dir)
	if err != nil {
		return nil, err
	}
	return &cniPlugin{attacher: a, dir: dir}, nil
}

func (*cniPlugin) Name() string { return CNI }

// UpdatePodCIDR gives the CIDR to plug-ins with the ipRanges capability. The others take
// addresses from their configuration.
func (p *cniPlugin) UpdatePodCIDR(cidr string) error {
	var ranges [][]cni.IPRange
	for one := range strings.SplitSeq(cidr, ",") {
		subnet, err := netip.ParsePrefix(strings.TrimSpace(one))
		if err != nil {
			return err
		}
		ranges = append(ranges, []cni.IPRange{{Subnet: subnet.Masked().String()}})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ranges = ranges
	return nil
}

func (p *cniPlugin) SetUp(ctx context.Context, s Sandbox, netns string) (Result, error) {
	p.mu.Lock()
	s.IPRanges = p.ranges
	p.mu.Unlock()
	return p.attacher.SetUp(ctx, s, netns)
}

func (p *cniPlugin) Run(ctx context.Context) error { return p.dir.Run(ctx) }

type kubenetPlugin struct {
	attacher
	network   *kubenet.Network
	attaching sync.RWMutex // held for reading while a sandbox is attached
}

func newKubenet(cfg Config) (Plugin, error) {
	own := kubenet.Config{
		HairpinMode: cfg.HairpinMode, NonMasqueradeCIDR: cfg.NonMasqueradeCIDR, MTU: cfg.MTU, Bridge: cfg.KubenetBridge,
		CacheDir: cfg.CacheDir, Record: cfg.KubenetRecord,
	}
	if cfg.CacheDir != "" { // where host-local keeps them by default, if the cache is where libcni has it
		own.DataDir = filepath.Join(filepath.Dir(cfg.CacheDir), "networks")
	}
	network, err := kubenet.New(own)
	if err != nil {
		return nil, err
	}
	a, err := newAttacher(cfg, network)
	if err != nil {
		return nil, err
	}
	return &kubenetPlugin{attacher: a, network: network}, nil
}

func (*kubenetPlugin) Name() string { return Kubenet }

// Warning is always empty: kubenet has its own FORWARD rules.
func (*kubenetPlugin) Warning() string { return "" }

func (p *kubenetPlugin) SetUp(ctx context.Context, s Sandbox, netns string) (Result, error) {
	p.attaching.RLock()
	defer p.attaching.RUnlock()
	return p.attacher.SetUp(ctx, s, netns)
}

// UpdatePodCIDR accepts another CIDR than before while no sandbox is attached, also no dead one.
func (p *kubenetPlugin) UpdatePodCIDR(cidr string) error {
	if cidr == "" {
		return errors.New("kubenet needs a pod CIDR, the one given is empty")
	}
	unused := p.attaching.TryLock() // a plug-in may take long
	if unused {
		defer p.attaching.Unlock()
		attached, err := p.Attached()
		if err != nil {
			return err
		}
		unused = len(attached) == 0
	}
	return p.network.SetPodCIDR(cidr, unused)
}

func (*kubenetPlugin) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
