package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/keylock"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/recovery"
)

// ifName is the name of the interface in pods, by the kubelet's convention.
const ifName = "eth0"

const (
	// delTimeout bounds every DEL, since some are nobody's call. One that cleans up after a failed
	// or cancelled ADD has a context of its own: the end of the caller's may be why ADD failed.
	delTimeout = time.Minute
	// statusTimeout bounds STATUS, which only looks.
	statusTimeout = 10 * time.Second
	// detaching is how many sandboxes Reconcile detaches at a time: one whose plug-in hangs must
	// not hold up the others.
	detaching = 8
)

// Config is what a Driver is built from.
type Config struct {
	Network Configuration
	// BinDirs are searched for plug-ins, in order. Missing directories are skipped.
	BinDirs []string
	// CacheDir is libcni's cache of results, /var/lib/cni/cache where empty.
	CacheDir string
	// StateDir holds the records of attachments, and nothing else.
	StateDir string
}

// Sandbox is what a plug-in must know of a sandbox.
type Sandbox struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Namespace string    `json:"namespace"`
	UID       string    `json:"uid"`
	Ports     []Port    `json:"ports,omitempty"`
	Bandwidth Bandwidth `json:"bandwidth,omitzero"`
	DNS       DNS       `json:"dns,omitzero"`
	// IPRanges is passed to plug-ins with the ipRanges capability: sets of ranges,
	// each with a subnet in CIDR form.
	IPRanges [][]IPRange `json:"ipRanges,omitempty"`
}

// Port is a port mapping in the form of the portMappings capability.
type Port struct {
	HostPort      int32  `json:"hostPort"`
	ContainerPort int32  `json:"containerPort"`
	Protocol      string `json:"protocol"` // tcp, udp or sctp
	HostIP        string `json:"hostIP,omitempty"`
}

// Bandwidth limits in bits per second, in the form of the bandwidth capability.
type Bandwidth struct {
	IngressRate  uint64 `json:"ingressRate,omitempty"`
	IngressBurst uint64 `json:"ingressBurst,omitempty"`
	EgressRate   uint64 `json:"egressRate,omitempty"`
	EgressBurst  uint64 `json:"egressBurst,omitempty"`
}

// DNS in the form of the dns capability.
type DNS struct {
	Servers  []string `json:"servers,omitempty"`
	Searches []string `json:"searches,omitempty"`
	Options  []string `json:"options,omitempty"`
}

// IPRange in the form of the ipRanges capability.
type IPRange struct {
	Subnet string `json:"subnet"`
}

// Result is what a sandbox got when it was attached.
type Result struct {
	// IPs of the sandbox's interface, in the order in which the plug-in gave them:
	// the first is the pod's primary address.
	IPs []string
}

// Driver attaches sandboxes to the configured network.
type Driver struct {
	cfg     Config
	cni     *libcni.CNIConfig
	records records
	locks   keylock.Locks // by sandbox: one call works on it at a time
}

// New checks the configuration; it calls no plug-in.
func New(cfg Config) (*Driver, error) {
	if cfg.Network == nil || cfg.StateDir == "" || len(cfg.BinDirs) == 0 {
		return nil, errors.New("cni: Network, StateDir and BinDirs are required")
	}
	return &Driver{
		cfg:     cfg,
		cni:     libcni.NewCNIConfigWithCacheDir(cfg.BinDirs, cfg.CacheDir, &runner{}),
		records: records{dir: cfg.StateDir},
	}, nil
}

// Status returns nil when sandboxes can be attached, else why not: there is no valid
// configuration, a plug-in is missing, or a plug-in of CNI 1.1 answers STATUS with an error.
func (d *Driver) Status(ctx context.Context) error {
	list, err := d.cfg.Network.Network()
	if err != nil {
		return err
	}
	if err := d.findPlugins(list); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	if err := d.cni.GetStatusNetworkList(ctx, list); err != nil {
		return fmt.Errorf("network %s: %w", list.Name, err)
	}
	return nil
}

func (d *Driver) findPlugins(list *libcni.NetworkConfigList) error {
	for _, p := range list.Plugins {
		if err := d.findPlugin(p.Network.Type); err != nil {
			return fmt.Errorf("network %s: %w", list.Name, err)
		}
	}
	return nil
}

// Add attaches a sandbox by its network namespace. A sandbox that is attached already keeps
// what it has. When Add fails, nothing stays attached.
func (d *Driver) Add(ctx context.Context, s Sandbox, netns string) (Result, error) {
	if s.ID == "" || s.ID != filepath.Base(s.ID) {
		return Result{}, fmt.Errorf("sandbox ID %q cannot name a record", s.ID)
	}
	unlock, err := d.locks.Lock(ctx, s.ID)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	if rec, ok := d.records.read(s.ID); ok {
		if len(rec.Result) > 0 {
			return resultOf(rec)
		}
		// An interrupted ADD.
		if err := d.del(ctx, rec, netns); err != nil {
			return Result{}, fmt.Errorf("clean up a broken attachment of sandbox %s: %w", s.ID, err)
		}
	}
	list, err := d.cfg.Network.Network()
	if err != nil {
		return Result{}, err
	}
	// With a plug-in missing, what the others do could not be undone.
	if err := d.findPlugins(list); err != nil {
		return Result{}, err
	}
	rec := record{Sandbox: s, Config: list.Bytes}
	if err := d.records.write(rec); err != nil {
		return Result{}, err
	}
	result, err := d.add(ctx, list, s, netns)
	if err == nil {
		rec.Result = result
		err = d.records.write(rec)
	}
	if err != nil {
		if delErr := d.del(context.WithoutCancel(ctx), rec, netns); delErr != nil {
			klog.ErrorS(delErr, "Could not undo a failed network attachment, will try again", "podSandboxID", s.ID)
		}
		return Result{}, fmt.Errorf("add sandbox %s to network %s: %w", s.ID, list.Name, err)
	}
	return resultOf(rec)
}

func (d *Driver) add(ctx context.Context, list *libcni.NetworkConfigList, s Sandbox, netns string) (json.RawMessage, error) {
	if err := d.loopback(ctx, s, netns); err != nil {
		return nil, err
	}
	result, err := d.cni.AddNetworkList(ctx, list, runtimeConf(s, netns))
	if err != nil {
		return nil, err
	}
	current, err := types100.NewResultFromResult(result)
	if err != nil {
		return nil, fmt.Errorf("read result: %w", err)
	}
	if len(current.IPs) == 0 {
		return nil, errors.New("the plug-ins gave no address")
	}
	return json.Marshal(current)
}

// Del detaches a sandbox; netns is empty when its process is gone. It succeeds
// for a sandbox that is not attached. After an error the attachment is still on
// record, and Reconcile tries again.
func (d *Driver) Del(ctx context.Context, id, netns string) error {
	unlock, err := d.locks.Lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	rec, ok := d.records.read(id)
	if !ok {
		return d.records.remove(id)
	}
	return d.del(ctx, rec, netns)
}

func (d *Driver) del(ctx context.Context, rec record, netns string) error {
	ctx, cancel := context.WithTimeout(ctx, delTimeout)
	defer cancel()
	id := rec.Sandbox.ID
	list, err := libcni.ConfListFromBytes(rec.Config)
	if err != nil {
		// No plug-in can be called with it, now or later.
		klog.ErrorS(err, "Dropping the unreadable record of a network attachment", "podSandboxID", id)
		return d.records.remove(id)
	}
	if netns != "" {
		if _, err := os.Stat(netns); err != nil {
			netns = ""
		}
	}
	if err := d.cni.DelNetworkList(ctx, list, runtimeConf(rec.Sandbox, netns)); err != nil {
		return fmt.Errorf("delete sandbox %s from network %s: %w", id, list.Name, err)
	}
	return d.records.remove(id)
}

// Check asks the plug-ins whether the sandbox's attachment is as ADD left it.
func (d *Driver) Check(ctx context.Context, id, netns string) error {
	unlock, err := d.locks.Lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	rec, ok := d.records.read(id)
	if !ok || len(rec.Result) == 0 {
		return fmt.Errorf("sandbox %s is not attached", id)
	}
	list, err := libcni.ConfListFromBytes(rec.Config)
	if err != nil {
		return fmt.Errorf("read the configuration that sandbox %s was attached with: %w", id, err)
	}
	if err := d.cni.CheckNetworkList(ctx, list, runtimeConf(rec.Sandbox, netns)); err != nil {
		return fmt.Errorf("check sandbox %s in network %s: %w", id, list.Name, err)
	}
	return nil
}

// Result returns what a sandbox got when it was attached; ok is false when it is
// not attached. No plug-in is called.
func (d *Driver) Result(id string) (Result, bool) {
	rec, ok := d.records.read(id)
	if !ok || len(rec.Result) == 0 {
		return Result{}, false
	}
	r, err := resultOf(rec)
	return r, err == nil
}

// Reconcile detaches every recorded sandbox that does not exist any more; exists is called from
// several goroutines. It returns an error for those that could not be detached, and must then be
// called again.
func (d *Driver) Reconcile(ctx context.Context, exists func(id string) bool) error {
	ids, err := d.records.ids()
	if err != nil {
		return err
	}
	errs := make([]error, len(ids))
	var group errgroup.Group
	group.SetLimit(detaching)
	for i, id := range ids {
		group.Go(func() error {
			errs[i] = recovery.Call(func() error {
				if exists(id) {
					return nil
				}
				return d.Del(ctx, id, "")
			})
			return nil
		})
	}
	_ = group.Wait() // none fails
	return errors.Join(errs...)
}

// loopbackConfig brings lo up in a new namespace, as the kubelet's runtimes do
// before the first network.
const loopbackConfig = `{"cniVersion":"0.4.0","name":"cni-loopback","plugins":[{"type":"loopback"}]}`

// loopback brings lo up. The container engine does so too, so that a missing plug-in is no
// error.
func (d *Driver) loopback(ctx context.Context, s Sandbox, netns string) error {
	if d.findPlugin("loopback") != nil {
		return nil
	}
	list, err := libcni.ConfListFromBytes([]byte(loopbackConfig))
	if err != nil {
		return fmt.Errorf("loopback configuration: %w", err)
	}
	rt := &libcni.RuntimeConf{ContainerID: s.ID, NetNS: netns, IfName: "lo"}
	if _, err := d.cni.AddNetworkList(ctx, list, rt); err != nil {
		return fmt.Errorf("bring up loopback: %w", err)
	}
	// Only the cached result must go; lo disappears with its namespace.
	return d.cni.DelNetworkList(ctx, list, &libcni.RuntimeConf{ContainerID: s.ID, IfName: "lo"})
}

func (d *Driver) findPlugin(name string) error {
	if name == "" || strings.ContainsRune(name, filepath.Separator) {
		return fmt.Errorf("plug-in type %q is not a program's name", name)
	}
	for _, dir := range d.cfg.BinDirs {
		if _, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return nil
		}
	}
	return fmt.Errorf("plug-in %s is not in %s", name, strings.Join(d.cfg.BinDirs, ", "))
}

// runtimeConf is the part of a call that depends on the sandbox. The arguments are the
// kubelet's; IgnoreUnknown lets plug-ins ignore those that they do not know.
func runtimeConf(s Sandbox, netns string) *libcni.RuntimeConf {
	rt := &libcni.RuntimeConf{
		ContainerID: s.ID,
		NetNS:       netns,
		IfName:      ifName,
		Args: [][2]string{
			{"IgnoreUnknown", "1"},
			{"K8S_POD_NAMESPACE", s.Namespace},
			{"K8S_POD_NAME", s.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", s.ID},
			{"K8S_POD_UID", s.UID},
		},
		CapabilityArgs: map[string]any{},
	}
	if len(s.Ports) > 0 {
		rt.CapabilityArgs["portMappings"] = s.Ports
	}
	if s.Bandwidth != (Bandwidth{}) {
		rt.CapabilityArgs["bandwidth"] = s.Bandwidth
	}
	if len(s.DNS.Servers)+len(s.DNS.Searches)+len(s.DNS.Options) > 0 {
		rt.CapabilityArgs["dns"] = s.DNS
	}
	if len(s.IPRanges) > 0 {
		rt.CapabilityArgs["ipRanges"] = s.IPRanges
	}
	return rt
}

func resultOf(rec record) (Result, error) {
	var r types100.Result
	if err := json.Unmarshal(rec.Result, &r); err != nil {
		return Result{}, fmt.Errorf("read the recorded result of sandbox %s: %w", rec.Sandbox.ID, err)
	}
	var res Result
	for _, ip := range r.IPs {
		// Addresses without an interface, or of an interface on the host, are not the pod's.
		if ip.Interface != nil && (*ip.Interface < 0 || *ip.Interface >= len(r.Interfaces) || r.Interfaces[*ip.Interface].Sandbox == "") {
			continue
		}
		res.IPs = append(res.IPs, ip.Address.IP.String())
	}
	if len(res.IPs) == 0 {
		return Result{}, fmt.Errorf("sandbox %s has no address in its network namespace", rec.Sandbox.ID)
	}
	return res, nil
}
