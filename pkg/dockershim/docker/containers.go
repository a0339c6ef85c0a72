package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/containerd/errdefs"
)

// listAge is how long a list of Docker's counts while the event stream says that
// nothing has changed: long enough that the two lists of a relist share one.
const listAge = 500 * time.Millisecond

// LabelPodUID is the kubelet's label by which one pod is listed.
const LabelPodUID = "io.kubernetes.pod.uid"

// Containers is what is known of our containers in Docker: lists and inspections, each
// kept until an event or a call of ours says that it may have changed. Without a
// live event stream nothing is kept. Its methods are safe for concurrent use.
type Containers struct {
	docker *Engine
	label  string        // that our containers carry, key=value
	age    time.Duration // listAge, but in tests

	mu        sync.Mutex
	live      bool
	lists     map[string]*list // by pod UID; "" is all
	inspected map[string]*container.InspectResponse
	loads     map[*load]bool
	pods      map[string]string // container to pod UID, where it is known
	// dead are containers that died by an event while Docker's list, which lags
	// behind its events, may still call them running.
	dead map[string]bool
	// failed are containers whose start failed. Docker lists them as never started.
	failed map[string]bool
	// oom are containers in which the kernel killed for memory. Docker forgets it of
	// one that ends before Docker has noted its start.
	oom map[string]bool
}

// list is an answer of Docker's. One that is stale is kept for its body: Docker
// often sends the same again.
type list struct {
	asOf  time.Time
	stale bool
	body  []byte
	items []Item
}

// load is a question to Docker on its way: an inspection, or a list.
type load struct {
	container string
	list      bool
	podUID    string // of a list
	stale     bool   // what it asks about has changed since it was sent
}

func NewContainers(docker *Engine, stateDir string) *Containers {
	v := &Containers{docker: docker, age: listAge, label: LabelStateDir + "=" + stateDir, loads: map[*load]bool{}, dead: map[string]bool{}, failed: map[string]bool{}, oom: map[string]bool{}}
	v.drop()
	return v
}

// drop forgets what was asked of Docker. The caller holds mu, or is the only one.
func (v *Containers) drop() {
	v.lists = map[string]*list{}
	v.pods = map[string]string{}
	v.inspected = map[string]*container.InspectResponse{}
	for l := range v.loads {
		l.stale = true
	}
}

// setLive tells whether an event stream is there from now on.
func (v *Containers) setLive(live bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.live = live
	v.drop()
}

// changed is told of every change to a container, by its event or by the call of
// ours that made it.
func (v *Containers) changed(id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.change(id)
}

func (v *Containers) change(id string) {
	delete(v.inspected, id)
	podUID, known := v.pods[id]
	concerns := func(list string) bool { return !known || list == "" || list == podUID }
	for uid, l := range v.lists {
		l.stale = l.stale || concerns(uid)
	}
	for l := range v.loads {
		l.stale = l.stale || l.container == id || l.list && concerns(l.podUID)
	}
}

// belongs is told whose pod a container is, so that a change to it leaves what is
// known of other pods.
func (v *Containers) belongs(id, podUID string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.pods[id] = podUID
}

// happened is told of an event.
func (v *Containers) happened(id string, action events.Action) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.change(id)
	switch action {
	case events.ActionDie:
		v.dead[id] = true
	case events.ActionOOM:
		v.oom[id] = true
	case events.ActionStart:
		delete(v.dead, id)
		delete(v.failed, id)
	case events.ActionDestroy:
		delete(v.dead, id)
		delete(v.failed, id)
		delete(v.oom, id)
		delete(v.pods, id)
	}
}

// OutOfMemory tells whether the kernel has killed for memory in the container.
func (v *Containers) OutOfMemory(id string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.oom[id]
}

// StartFailed is told of a container that Docker could not start.
func (v *Containers) StartFailed(id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.change(id)
	v.failed[id] = true
}

// List lists our containers, sandboxes among them: all, or those of one pod.
func (v *Containers) List(ctx context.Context, podUID string) ([]Item, error) {
	v.mu.Lock()
	known := v.lists[podUID]
	if known != nil && v.live && !known.stale && time.Since(known.asOf) < v.age {
		defer v.mu.Unlock()
		return v.overlay(known.items), nil
	}
	l := &load{list: true, podUID: podUID}
	v.loads[l] = true
	v.mu.Unlock()

	asOf := time.Now()
	items, body, err := v.load(ctx, podUID, known)

	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.loads, l)
	if err != nil {
		return nil, err
	}
	for i := range items {
		v.pods[items[i].ID] = items[i].Labels[LabelPodUID]
	}
	if v.live {
		if podUID != "" && len(v.lists) > keptLists {
			v.lists = map[string]*list{"": v.lists[""]}
			if v.lists[""] == nil {
				delete(v.lists, "")
			}
		}
		v.lists[podUID] = &list{asOf: asOf, stale: l.stale, body: body, items: items}
	}
	return v.overlay(items), nil
}

// keptLists bounds how many lists are remembered.
const keptLists = 64

// load lists; the items are those of known where Docker says the same again.
func (v *Containers) load(ctx context.Context, podUID string, known *list) ([]Item, []byte, error) {
	body, err := v.ask(ctx, podUID)
	if err != nil {
		return nil, nil, err
	}
	if known != nil && bytes.Equal(known.body, body) {
		return known.items, body, nil
	}
	items, err := parseList(body)
	return items, body, err
}

// ask has Docker list containers.
func (v *Containers) ask(ctx context.Context, podUID string) ([]byte, error) {
	args := filters.NewArgs(filters.Arg("label", v.label))
	if podUID != "" {
		args.Add("label", LabelPodUID+"="+podUID)
	}
	filter, err := filters.ToJSON(args)
	if err != nil {
		return nil, err
	}
	resp, err := v.docker.get(ctx, "/containers/json", url.Values{"all": {"1"}, "filters": {filter}}.Encode())
	if err != nil {
		return nil, fmt.Errorf("list Docker's containers: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read the list of Docker's containers: %w", err)
	}
	return body, nil
}

func parseList(body []byte) ([]Item, error) {
	var listed []summary
	if err := json.Unmarshal(body, &listed); err != nil {
		return nil, fmt.Errorf("read the list of Docker's containers: %w", err)
	}
	items := make([]Item, 0, len(listed))
	for i := range listed {
		if it, ours := newItem(&listed[i]); ours {
			items = append(items, it)
		}
	}
	return items, nil
}

// overlay corrects a list by what events and failed calls have told. The caller holds mu.
func (v *Containers) overlay(items []Item) []Item {
	if len(v.dead) == 0 && len(v.failed) == 0 {
		return items
	}
	var corrected []Item
	for i, it := range items {
		state := it.State
		switch {
		case state == StateRunning && v.dead[it.ID], state == StateCreated && v.failed[it.ID]:
			state = StateExited
		case state == StateExited:
			delete(v.dead, it.ID)
		}
		if state != it.State {
			if corrected == nil {
				corrected = append(corrected, items...)
			}
			corrected[i].State = state
		}
	}
	if corrected == nil {
		return items
	}
	return corrected
}

// takeOver leaves an inspected container only the labels that we gave it, and tells
// whether it is ours.
func (v *Containers) takeOver(r *container.InspectResponse) bool {
	if r.Config == nil || r.ContainerJSONBase == nil {
		return false
	}
	r.Config.Labels = trusted(r.Config.Labels)
	_, named := IdentityOf(r.Name, r.Config.Labels)
	return named && LabelStateDir+"="+r.Config.Labels[LabelStateDir] == v.label
}

// Inspect shows one container, which must be ours. The answer is shared: it is
// only read. Its labels are those that we gave it.
func (v *Containers) Inspect(ctx context.Context, id string) (*container.InspectResponse, error) {
	v.mu.Lock()
	if r := v.inspected[id]; r != nil {
		v.mu.Unlock()
		return r, nil
	}
	l := &load{container: id}
	v.loads[l] = true
	v.mu.Unlock()

	r, err := v.docker.ContainerInspect(ctx, id)

	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.loads, l)
	if err != nil {
		return nil, err
	}
	if !v.takeOver(&r) {
		return nil, failed(errdefs.ErrNotFound, "container %q does not exist", id)
	}
	// A prefix of an id finds the container, too, but only ids are told of changes.
	if v.live && !l.stale && id == r.ID {
		v.inspected[id] = &r
	}
	return &r, nil
}
