package nodeobject

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	coordinationv1 "k8s.io/api/coordination/v1"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/component-helpers/apimachinery/lease"
	nodeutil "k8s.io/component-helpers/node/util"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/bounds"
	"github.com/mini-kubelet/mini-kubelet/pkg/base/logonce"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
)

// Runtime is what the container runtime is asked.
type Runtime interface {
	Status(context.Context) (*cri.StatusResponse, error)
	Images(context.Context) ([]*cri.Image, error)
}

// Config is what a Manager is made of.
type Config struct {
	Name     string
	Hostname string // for the label and the address
	Watch    *Watch // of the node object; the Manager runs it
	// Heartbeat is a client with short timeouts and no limits.
	Heartbeat      kubernetes.Interface
	Runtime        Runtime
	Machine        func() Machine // now
	RuntimeVersion string         // "docker://20.10.24"
	KubeletVersion string
	Port           int32
	IPs            func() []string // addresses, primary first
	Labels         map[string]string
	Taints         []v1.Taint
	ProviderID     string
	MaxImages      int
	Register       bool // registerNode
	// Pressure returns the pressure conditions that hold; nil: none ever does.
	Pressure func() []v1.NodeConditionType
	// Devices returns the extended resources of device plug-ins; nil: there are none.
	Devices func() (capacity, allocatable v1.ResourceList)
	// Fresh says that the node was set up anew: what an object that exists says of extended resources is not true any
	// more.
	Fresh bool
	// Period is how often the status is computed, Report how often an unchanged one is
	// sent, LeaseDuration how long a lease lasts.
	Period, Report, LeaseDuration time.Duration
	// ExternalCloud leaves the node's addresses to a cloud controller (--cloud-provider=external),
	// which is told of GivenIPs: those of --node-ip that name an address. NodeIPSet says that
	// --node-ip was set at all.
	ExternalCloud, NodeIPSet bool
	GivenIPs                 []string
	// InUse holds the attachable volumes for the status; nil for none.
	InUse *InUse
	// Changed has a token when a condition of the node may have changed: the status is then
	// computed at once. nil: it never has one.
	Changed <-chan struct{}
	// Healthy returns what, besides the runtime, keeps the node from being ready. Settled is closed once it
	// knows: a node that was ready is not said to be otherwise only because the agent has just started. nil: it always does.
	Healthy func() []string
	Settled <-chan struct{}
	Event   journal.NodeEvent
	// Booted and Started are when the machine and the agent were started.
	Booted, Started time.Time
	Metrics         prometheus.Registerer // nil: nothing is measured
	Clock           clock.WithTicker
}

// Manager maintains the node's object and lease in the cluster. Run it once.
type Manager struct {
	cfg     Config
	startup *startup

	images    []*cri.Image
	imagesAt  time.Time
	runtimeOK time.Time // when the runtime last answered
	reported  time.Time // when the status was last sent
	last      *v1.Node  // the API server's last answer
	cordoned  bool      // as last recorded
	reset     bool      // extended resources are to be set to zero once
}

// imagePeriod is how often the images are listed again.
const imagePeriod = time.Minute

// runtimePatience is how long a runtime may be silent before the node is not ready,
// as in the kubelet.
const runtimePatience = 30 * time.Second

// settlePatience is how long the status waits for Settled: the API server may not answer.
const settlePatience = 5 * time.Second

// maxTold is how much of what a runtime says of a condition is repeated, in bytes: it may come from a
// network plug-in.
const maxTold = 1 << 10

// New checks the configuration.
func New(cfg Config) (*Manager, error) {
	switch {
	case cfg.Name == "", cfg.Watch == nil, cfg.Heartbeat == nil, cfg.Runtime == nil:
		return nil, errors.New("nodeobject: no Name, Watch, Heartbeat or Runtime")
	case cfg.IPs == nil, cfg.Healthy == nil, cfg.Event == nil, cfg.Machine == nil:
		return nil, errors.New("nodeobject: no IPs, Healthy, Event or Machine")
	case cfg.Period <= 0, cfg.Report <= 0, cfg.LeaseDuration <= 0:
		return nil, errors.New("nodeobject: no Period, Report or LeaseDuration")
	}
	if cfg.InUse == nil {
		cfg.InUse = NewInUse()
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.RealClock{}
	}
	if cfg.Pressure == nil {
		cfg.Pressure = func() []v1.NodeConditionType { return nil }
	}
	startup, err := newStartup(cfg.Metrics, cfg.Booted, cfg.Started)
	if err != nil {
		return nil, err
	}
	return &Manager{cfg: cfg, startup: startup}, nil
}

// Run registers the node and keeps it alive until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return m.cfg.Watch.Run(ctx) })
	group.Go(func() error {
		m.cfg.Event(v1.EventTypeNormal, "Starting", "Starting kubelet.")
		if m.cfg.Register {
			if err := m.register(ctx); err != nil {
				return err
			}
		}
		group.Go(func() error { m.heartbeat(ctx); return nil })
		m.report(ctx)
		return nil
	})
	return group.Wait()
}

// register creates the node object, or brings an existing one up to date. It
// retries until it succeeds or ctx ends.
func (m *Manager) register(ctx context.Context) error {
	backOff := wait.Backoff{Duration: 100 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 7, Cap: 7 * time.Second}
	var failing logonce.Error
	began, asked := m.cfg.Clock.Now(), false
	m.startup.attempt(began)
	for {
		err := m.tryRegister(ctx, began, asked)
		if err == nil {
			return nil
		}
		asked = true
		if ctx.Err() != nil {
			return nil
		}
		if failing.Note(err) {
			klog.ErrorS(err, "Could not register the node with the API server, trying again", "node", m.cfg.Name)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-m.cfg.Clock.After(backOff.Step()):
		}
	}
}

// tryRegister is one attempt. asked says that an earlier one since began has failed, perhaps only
// to hear the answer.
func (m *Manager) tryRegister(ctx context.Context, began time.Time, asked bool) error {
	nodes := m.cfg.Heartbeat.CoreV1().Nodes()
	wanted := m.initial(ctx)
	made, err := nodes.Create(ctx, wanted, metav1.CreateOptions{})
	if err == nil {
		klog.InfoS("Registered the node", "node", m.cfg.Name)
		m.last, m.reported = made, m.cfg.Clock.Now()
		m.startup.registered(m.reported, made)
		m.tell(v1.NodeStatus{}, wanted.Status)
		return nil
	}
	if !apierrors.IsAlreadyExists(err) && !apierrors.IsForbidden(err) {
		return err
	}
	have, getErr := nodes.Get(ctx, m.cfg.Name, metav1.GetOptions{})
	if getErr != nil {
		return errors.Join(err, getErr) // if the first was Forbidden, that is the cause
	}
	patch, err := reconcile(have, wanted)
	if err != nil {
		return err
	}
	m.last = have
	if patch != nil {
		if m.last, err = nodes.Patch(ctx, m.cfg.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("bring the labels of the node up to date: %w", err)
		}
	}
	if asked && !have.CreationTimestamp.Time.Before(began.Truncate(time.Second)) {
		klog.InfoS("Registered the node, and did not hear the answer", "node", m.cfg.Name)
		m.startup.registered(m.cfg.Clock.Now(), have)
		m.tell(v1.NodeStatus{}, have.Status)
		return nil
	}
	m.reset = m.cfg.Fresh
	klog.InfoS("The node was registered before", "node", m.cfg.Name)
	return nil
}

// attachAnnotation leaves attaching volumes to the controller; providedIPAnnotation tells an
// external cloud provider of --node-ip.
const (
	attachAnnotation     = "volumes.kubernetes.io/controller-managed-attach-detach"
	providedIPAnnotation = "alpha.kubernetes.io/provided-node-ip"
)

// uninitialized keeps pods off a node until its cloud provider has looked at it.
var uninitialized = v1.Taint{Key: "node.cloudprovider.kubernetes.io/uninitialized", Value: "true", Effect: v1.TaintEffectNoSchedule}

// ownLabels are brought up to date on a node that exists, as far as it has values for them.
var ownLabels = []string{
	v1.LabelHostname, v1.LabelTopologyZone, v1.LabelTopologyRegion, v1.LabelFailureDomainBetaZone, v1.LabelFailureDomainBetaRegion,
	v1.LabelInstanceTypeStable, v1.LabelInstanceType, v1.LabelOSStable, v1.LabelArchStable, v1.LabelWindowsBuild,
	"beta.kubernetes.io/os", "beta.kubernetes.io/arch",
}

// initial is the node object of a node that is new to the cluster.
func (m *Manager) initial(ctx context.Context) *v1.Node {
	n := &v1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: m.cfg.Name, Labels: DefaultLabels(m.cfg.Hostname, m.cfg.Machine().Info, m.cfg.Labels),
			Annotations: map[string]string{attachAnnotation: "true"},
		},
		Spec: v1.NodeSpec{Taints: slices.Clone(m.cfg.Taints), ProviderID: m.cfg.ProviderID},
	}
	if m.cfg.ExternalCloud {
		if !slices.ContainsFunc(n.Spec.Taints, func(t v1.Taint) bool { return t.MatchTaint(&uninitialized) }) {
			n.Spec.Taints = append(n.Spec.Taints, uninitialized)
		}
		if len(m.cfg.GivenIPs) > 0 {
			n.Annotations[providedIPAnnotation] = strings.Join(m.cfg.GivenIPs, ",")
		}
	}
	n.Status = m.status(ctx, v1.NodeStatus{})
	return n
}

// reconcile returns the patch that brings an existing node's own part up to date:
// its standard labels and its annotations. Taints, cordon and other labels stay
// (kubelet behaviour). nil: nothing needs to change.
func reconcile(have, wanted *v1.Node) ([]byte, error) {
	now := have.DeepCopy()
	if now.Labels == nil {
		now.Labels = map[string]string{}
	}
	for _, name := range ownLabels {
		if value, ok := wanted.Labels[name]; ok && value != "" {
			now.Labels[name] = value
		} else if ok {
			delete(now.Labels, name)
		}
	}
	if now.Annotations == nil {
		now.Annotations = map[string]string{}
	}
	for _, name := range []string{attachAnnotation, providedIPAnnotation} {
		if value, ok := wanted.Annotations[name]; ok {
			now.Annotations[name] = value
		} else {
			delete(now.Annotations, name)
		}
	}
	if maps.Equal(now.Labels, have.Labels) && maps.Equal(now.Annotations, have.Annotations) {
		return nil, nil
	}
	return metaPatch(have, now)
}

func metaPatch(have, now *v1.Node) ([]byte, error) {
	old, err := encode(&v1.Node{ObjectMeta: metav1.ObjectMeta{Labels: have.Labels, Annotations: have.Annotations}})
	if err != nil {
		return nil, err
	}
	fresh, err := encode(&v1.Node{ObjectMeta: metav1.ObjectMeta{Labels: now.Labels, Annotations: now.Annotations}})
	if err != nil {
		return nil, err
	}
	return strategicpatch.CreateTwoWayMergePatch(old, fresh, v1.Node{})
}

// heartbeat renews the node's lease four times within its duration.
func (m *Manager) heartbeat(ctx context.Context) {
	failing := func() {
		klog.InfoS("The lease could not be renewed several times in a row; opening new connections", "node", m.cfg.Name)
	}
	own := func(l *coordinationv1.Lease) error {
		if l.OwnerReferences != nil {
			return nil
		}
		n := m.cfg.Watch.Node()
		if n == nil {
			return errors.New("there is no node object that has been seen")
		}
		l.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: n.UID}}
		return nil
	}
	select {
	case <-m.cfg.Watch.Synced():
	case <-ctx.Done():
		return
	}
	lease.NewController(m.cfg.Clock, m.cfg.Heartbeat, m.cfg.Name, int32(m.cfg.LeaseDuration/time.Second), failing,
		m.cfg.LeaseDuration/4, m.cfg.Name, v1.NamespaceNodeLease, own).Run(ctx)
}

// report computes the status every period, and at once when the volumes in use or a condition of the
// node have changed.
func (m *Manager) report(ctx context.Context) {
	if m.cfg.Settled != nil {
		select {
		case <-ctx.Done():
		case <-m.cfg.Settled:
		case <-m.cfg.Clock.After(settlePatience):
		}
	}
	tick := m.cfg.Clock.NewTicker(m.cfg.Period)
	defer tick.Stop()
	var failing logonce.Error
	for {
		if err := m.tryReport(ctx); ctx.Err() == nil && failing.Note(err) {
			klog.ErrorS(err, "Could not report the node's status, trying again", "node", m.cfg.Name)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C():
		case <-m.cfg.InUse.changed:
		case <-m.cfg.Changed:
		}
	}
}

// tell records what has happened between two statuses.
func (m *Manager) tell(old, now v1.NodeStatus) {
	for _, e := range events(m.cfg.Name, old, now) {
		m.cfg.Event(e.kind, e.reason, e.message)
	}
}

// tryReport sends the status if it has changed or is due.
func (m *Manager) tryReport(ctx context.Context) error {
	base := m.base()
	if base == nil {
		n, err := m.cfg.Heartbeat.CoreV1().Nodes().Get(ctx, m.cfg.Name, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("get node: %w", err)
		}
		base = n
	}
	if is := base.Spec.Unschedulable; is != m.cordoned {
		m.cordoned = is
		e := schedulable(m.cfg.Name, !is)
		m.cfg.Event(e.kind, e.reason, e.message)
	}
	now := base.DeepCopy()
	now.Status = m.status(ctx, base.Status)
	due := m.cfg.Clock.Since(m.reported) >= m.cfg.Report
	if !due && !changed(base.Status, now.Status) {
		m.cfg.InUse.tell(base.Status.VolumesInUse)
		return nil
	}
	updated, _, err := nodeutil.PatchNodeStatus(m.cfg.Heartbeat.CoreV1(), types.NodeName(m.cfg.Name), base, now)
	if err != nil {
		m.last = nil // perhaps it was not what the API server has
		return err
	}
	m.tell(base.Status, now.Status)
	m.reset = false
	m.last, m.reported = updated, m.cfg.Clock.Now()
	m.startup.seen(m.reported, updated)
	m.cfg.InUse.tell(updated.Status.VolumesInUse)
	return nil
}

// base is the newest known node object: the watch's, unless our own last write is
// newer; nil if it was deleted.
func (m *Manager) base() *v1.Node {
	seen := m.cfg.Watch.Node()
	if seen == nil && m.wasSeen() {
		return nil
	}
	if m.last == nil || seen != nil && !older(seen, m.last) {
		return seen
	}
	return m.last
}

func (m *Manager) wasSeen() bool {
	select {
	case <-m.cfg.Watch.Synced():
		return true
	default:
		return false
	}
}

// addresses returns the node's addresses. Those that an external cloud provider has set stay;
// until it has, the node has the host name and --node-ip.
func (m *Manager) addresses(old v1.NodeStatus) []v1.NodeAddress {
	switch {
	case !m.cfg.ExternalCloud:
		return Addresses(m.cfg.IPs(), m.cfg.Hostname)
	case len(old.Addresses) > 0:
		return old.Addresses
	case !m.cfg.NodeIPSet:
		return Addresses(nil, m.cfg.Hostname)
	}
	return Addresses(m.cfg.IPs(), m.cfg.Hostname)
}

// status examines the machine and the runtime.
func (m *Manager) status(ctx context.Context, old v1.NodeStatus) v1.NodeStatus {
	now := m.cfg.Clock.Now()
	in := Input{
		Old: old, Addresses: m.addresses(old), Machine: m.cfg.Machine(), Port: m.cfg.Port,
		MaxImages: m.cfg.MaxImages, Now: now, Problems: m.cfg.Healthy(),
		VolumesInUse: m.cfg.InUse.list(), Reset: m.reset,
	}
	if m.cfg.Devices != nil {
		in.Devices.Capacity, in.Devices.Allocatable = m.cfg.Devices()
	}
	in.Versions.Kubelet, in.Versions.Runtime = m.cfg.KubeletVersion, m.cfg.RuntimeVersion
	in.Pressure = m.cfg.Pressure()
	r, err := m.cfg.Runtime.Status(ctx)
	if err == nil {
		m.runtimeOK = now
		in.Handlers, in.Features = r.RuntimeHandlers, r.Features
	}
	in.Problems = append(runtimeProblems(r, err, now.Sub(m.runtimeOK)), in.Problems...)
	if err == nil && (m.images == nil || now.Sub(m.imagesAt) >= imagePeriod) {
		if images, err := m.cfg.Runtime.Images(ctx); err == nil {
			m.images, m.imagesAt = images, now
			if m.images == nil {
				m.images = []*cri.Image{}
			}
		}
	}
	in.Images = m.images
	if err != nil { // its earlier answer still holds
		in.Handlers, in.Features = handlersOf(old), featuresOf(old)
	}
	return Status(in)
}

// runtimeProblems returns why the runtime keeps the node from being ready, in the
// kubelet's words. err is why it did not answer, silent for how long it has not.
func runtimeProblems(r *cri.StatusResponse, err error, silent time.Duration) []string {
	if err != nil {
		if silent < runtimePatience {
			return nil
		}
		return []string{"container runtime is down"}
	}
	var out []string
	for _, want := range []struct{ name, missing, text string }{
		{"RuntimeReady", "container runtime status check may not have completed yet", "container runtime not ready: "},
		{"NetworkReady", "container runtime network not ready: network condition missing", "container runtime network not ready: "},
	} {
		var found *cri.RuntimeCondition
		for _, c := range r.GetStatus().GetConditions() {
			if c.Type == want.name {
				found = c
			}
		}
		switch {
		case found == nil:
			out = append(out, want.missing)
		case !found.Status:
			out = append(out, fmt.Sprintf("%s%s=false reason:%s message:%s", want.text, want.name, bounds.Cut(found.Reason, maxTold), bounds.Cut(found.Message, maxTold)))
		}
	}
	return out
}

func handlersOf(s v1.NodeStatus) []*cri.RuntimeHandler {
	var out []*cri.RuntimeHandler
	for _, h := range s.RuntimeHandlers {
		f := &cri.RuntimeHandlerFeatures{}
		if h.Features != nil {
			f.RecursiveReadOnlyMounts, f.UserNamespaces = ptr.Deref(h.Features.RecursiveReadOnlyMounts, false), ptr.Deref(h.Features.UserNamespaces, false)
		}
		out = append(out, &cri.RuntimeHandler{Name: h.Name, Features: f})
	}
	return out
}

func featuresOf(s v1.NodeStatus) *cri.RuntimeFeatures {
	if s.Features == nil {
		return nil
	}
	return &cri.RuntimeFeatures{SupplementalGroupsPolicy: ptr.Deref(s.Features.SupplementalGroupsPolicy, false)}
}
