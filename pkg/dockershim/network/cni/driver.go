package cni

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/containernetworking/cni/libcni"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
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
	const lost = "How sandboxes are attached. They are detached by the network as it is now."
	if err := durable.MakeWay(cfg.StateDir, lost); err != nil && !errors.Is(err, durable.ErrDamaged) {
		return nil, fmt.Errorf("cni: %w", err)
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
	if err := recovery.Call(func() error { return d.cni.GetStatusNetworkList(ctx, list) }); err != nil {
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
	if err := checkArguments(s); err != nil {
		return Result{}, fmt.Errorf("sandbox %s: %w", s.ID, err)
	}
	unlock, err := d.locks.Lock(ctx, s.ID)
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	if res, attached, err := d.Result(s.ID); err != nil || attached {
		return res, err
	}
	// An interrupted ADD, or a record that cannot be relied on.
	if err := d.detach(ctx, s.ID, netns); err != nil {
		return Result{}, fmt.Errorf("clean up a broken attachment of sandbox %s: %w", s.ID, err)
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
	var res Result
	if rec.Result, err = d.add(ctx, list, s, netns); err == nil {
		if res, err = resultOf(rec.Result); err == nil {
			err = d.records.write(rec)
		}
	}
	if err != nil {
		if delErr := d.del(context.WithoutCancel(ctx), rec, netns); delErr != nil {
			klog.ErrorS(delErr, "Could not undo a failed network attachment, will try again", "podSandboxID", s.ID)
		}
		return Result{}, fmt.Errorf("add sandbox %s to network %s: %w", s.ID, list.Name, err)
	}
	return res, nil
}

func (d *Driver) add(ctx context.Context, list *libcni.NetworkConfigList, s Sandbox, netns string) (raw json.RawMessage, err error) {
	if err := d.loopback(ctx, s, netns); err != nil {
		return nil, err
	}
	err = recovery.Call(func() error { // libcni converts what plug-ins answer
		result, err := d.cni.AddNetworkList(ctx, list, runtimeConf(s, netns))
		if err != nil {
			return err
		}
		current, err := types100.NewResultFromResult(result)
		if err != nil {
			return fmt.Errorf("read result: %w", err)
		}
		raw, err = json.Marshal(current)
		return err
	})
	return raw, err
}

// Del detaches a sandbox; netns is empty when its process is gone. It succeeds
// for a sandbox that is not attached. After an error the attachment is still on
// record, and Reconcile tries again. A damaged record is dropped once the plug-ins have been
// called with what else is known of the attachment; where nothing is known it is left to
// Reconcile, and holds up nobody.
func (d *Driver) Del(ctx context.Context, id, netns string) error {
	err := d.lockedDetach(ctx, id, netns)
	if errors.Is(err, errNoNetwork) {
		klog.ErrorS(err, "Network attachment is left for later", "podSandboxID", id)
		return nil
	}
	return err
}

func (d *Driver) lockedDetach(ctx context.Context, id, netns string) error {
	unlock, err := d.locks.Lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	return d.detach(ctx, id, netns)
}

// detach is Del for a caller that holds the sandbox's lock.
func (d *Driver) detach(ctx context.Context, id, netns string) error {
	if id == "" || id != filepath.Base(id) {
		return nil // it cannot name a record
	}
	rec, err := d.records.read(id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, errDamaged):
		return d.delDamaged(ctx, id, netns, err)
	case err != nil:
		return fmt.Errorf("read how sandbox %s was attached: %w", id, err)
	}
	return d.del(ctx, rec, netns)
}

func (d *Driver) del(ctx context.Context, rec record, netns string) error {
	id := rec.Sandbox.ID
	list, err := networkOf(rec.Config)
	if err != nil {
		return d.delDamaged(ctx, id, netns, err)
	}
	if err := d.delFrom(ctx, list, runtimeConf(rec.Sandbox, existing(netns))); err != nil {
		return fmt.Errorf("delete sandbox %s from network %s: %w", id, list.Name, err)
	}
	return d.records.remove(id)
}

// existing returns the path of a network namespace, or "" when it is gone.
func existing(netns string) string {
	if netns != "" {
		if _, err := os.Stat(netns); err != nil {
			return ""
		}
	}
	return netns
}

// delFrom has the plug-ins of a network detach a sandbox, within delTimeout.
func (d *Driver) delFrom(ctx context.Context, list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) error {
	ctx, cancel := context.WithTimeout(ctx, delTimeout)
	defer cancel()
	d.checkCached(list, rt)
	return recovery.Call(func() error { return d.cni.DelNetworkList(ctx, list, rt) })
}

// checkCached drops libcni's own copy of a result if libcni or a plug-in would stumble over it.
// DEL works without.
func (d *Driver) checkCached(list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) {
	err := recovery.Call(func() error {
		result, err := d.cni.GetNetworkListCachedResult(list, rt)
		if err != nil || result == nil {
			return err
		}
		text, err := json.Marshal(result)
		if err != nil {
			return err
		}
		return checkAnswer(text)
	})
	if err == nil {
		return
	}
	dir := d.cfg.CacheDir
	if dir == "" {
		dir = libcni.CacheDir
	}
	path := filepath.Join(dir, "results", list.Name+"-"+rt.ContainerID+"-"+rt.IfName)
	klog.ErrorS(err, "Dropping a damaged result from the CNI cache", "path", path)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		klog.ErrorS(err, "Could not drop it")
	}
}

// errNoNetwork is wrapped by errors of a sandbox of which there is no network to detach it from yet.
var errNoNetwork = errors.New("it is not known which plug-ins to call")

// delDamaged detaches a sandbox whose record is damaged, as well as it can: from the networks in
// libcni's cache, else from the present one. Whether or not the plug-ins succeed the record goes,
// since it would never become better, and must not hold up its sandbox. It stays, with an
// errNoNetwork, when there was none to call: at boot the configuration may come later.
func (d *Driver) delDamaged(ctx context.Context, id, netns string, why error) error {
	klog.ErrorS(why, "Record of a network attachment is damaged, detaching the sandbox without it", "podSandboxID", id)
	netns = existing(netns)
	attached, err := d.cni.GetCachedAttachments(id)
	if err != nil {
		klog.ErrorS(err, "Could not read the CNI cache", "podSandboxID", id)
	}
	tried := false
	try := func(list *libcni.NetworkConfigList, rt *libcni.RuntimeConf) {
		tried = true
		if err := d.delFrom(ctx, list, rt); err != nil {
			klog.ErrorS(err, "Could not detach a sandbox without its record, what it holds of the network may stay", "podSandboxID", id, "network", list.Name)
		}
	}
	for _, a := range attached {
		if list, err := networkOf(a.Config); err == nil && a.IfName == ifName {
			try(list, &libcni.RuntimeConf{ContainerID: id, NetNS: netns, IfName: ifName, Args: a.CniArgs, CapabilityArgs: a.CapabilityArgs})
		}
	}
	if !tried {
		list, err := d.cfg.Network.Network()
		if err != nil {
			return fmt.Errorf("detach sandbox %s: %w: %w", id, errNoNetwork, err)
		}
		try(list, runtimeConf(Sandbox{ID: id}, netns))
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("detach sandbox %s: %w", id, err)
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
	rec, err := d.records.read(id)
	if err != nil || len(rec.Result) == 0 {
		return fmt.Errorf("sandbox %s is not attached", id)
	}
	list, err := networkOf(rec.Config)
	if err != nil {
		return fmt.Errorf("read the configuration that sandbox %s was attached with: %w", id, err)
	}
	if err := recovery.Call(func() error { return d.cni.CheckNetworkList(ctx, list, runtimeConf(rec.Sandbox, netns)) }); err != nil {
		return fmt.Errorf("check sandbox %s in network %s: %w", id, list.Name, err)
	}
	return nil
}

// Result returns what a sandbox got when it was attached. It is not attached without a
// record, or with one that is damaged; an error means that this cannot be told at the moment.
// No plug-in is called.
func (d *Driver) Result(id string) (r Result, attached bool, err error) {
	rec, err := d.records.read(id)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errDamaged):
		return Result{}, false, nil
	case err != nil:
		return Result{}, false, fmt.Errorf("read how sandbox %s was attached: %w", id, err)
	case len(rec.Result) == 0:
		return Result{}, false, nil
	}
	r, err = resultOf(rec.Result)
	return r, err == nil, nil
}

// Attached returns the IDs of the sandboxes that are on record as attached, or as about to be.
func (d *Driver) Attached() ([]string, error) { return d.records.ids() }

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
				return d.lockedDetach(ctx, id, "")
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
	if err := recovery.Call(func() error { _, err := d.cni.AddNetworkList(ctx, list, rt); return err }); err != nil {
		return fmt.Errorf("bring up loopback: %w", err)
	}
	// Only the cached result must go; lo disappears with its namespace.
	return d.delFrom(ctx, list, &libcni.RuntimeConf{ContainerID: s.ID, IfName: "lo"})
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

// checkArguments refuses a sandbox whose names would be taken for further arguments: plug-ins get
// them as a list of key=value, separated by semicolons.
func checkArguments(s Sandbox) error {
	for _, value := range []string{s.ID, s.Namespace, s.Name, s.UID} {
		if strings.ContainsAny(value, ";=") {
			return fmt.Errorf("%q cannot be passed to CNI plug-ins: it contains ';' or '='", value)
		}
	}
	return nil
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
