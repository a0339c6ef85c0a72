package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
)

// listAge is how long a list counts while the event stream reports no change: long enough
// that the two lists of a relist share one.
const listAge = 500 * time.Millisecond

// Containers are the containers in Docker that this dockershim made, sandboxes among them.
// Lists and inspections are kept until an event or a call of ours means that they may have
// changed; without a live event stream (see Watch) nothing is kept. Changes go through
// Containers too, so that it knows of each. Its methods are safe for concurrent use.
type Containers struct {
	engine *Engine
	label  string        // key=value, on each of our containers
	age    time.Duration // listAge, except in tests

	mu        sync.Mutex
	live      bool
	lists     map[string]*list // by pod UID; "" is all
	inspected map[string]*container.InspectResponse
	loads     map[*load]bool
	pods      map[string]string // pod UID by container, where it is known
	// dead holds containers that died according to an event. Docker's list lags behind its
	// events and may still call them running.
	dead map[string]bool
	// failed holds containers whose start failed. Docker lists them as created.
	failed map[string]bool
	// oom holds containers in which the kernel killed for lack of memory. Docker forgets that
	// when a container ends before Docker has noted its start.
	oom map[string]bool
}

// list is a list as Docker sent it. A stale one is kept for its body, since Docker often
// sends the same again.
type list struct {
	asOf  time.Time
	stale bool
	body  []byte
	items []Item
}

// load is a request to Docker that is under way: an inspection or a list.
type load struct {
	container string
	list      bool
	podUID    string // of a list
	stale     bool   // its subject has changed since it was sent
}

// NewContainers returns the containers that the dockershim with this state directory made.
func NewContainers(engine *Engine, stateDir string) *Containers {
	c := &Containers{
		engine: engine, age: listAge, label: LabelStateDir + "=" + stateDir, loads: map[*load]bool{},
		dead: map[string]bool{}, failed: map[string]bool{}, oom: map[string]bool{},
	}
	c.drop()
	return c
}

// drop forgets Docker's answers. The caller holds mu, or is the only user.
func (c *Containers) drop() {
	c.lists = map[string]*list{}
	c.pods = map[string]string{}
	c.inspected = map[string]*container.InspectResponse{}
	for l := range c.loads {
		l.stale = true
	}
}

// setLive notes whether there is an event stream from now on.
func (c *Containers) setLive(live bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live = live
	c.drop()
}

// changed is called for every change to a container: by its event, and by the call of ours
// that made it.
func (c *Containers) changed(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.change(id)
}

func (c *Containers) change(id string) {
	delete(c.inspected, id)
	podUID, known := c.pods[id]
	concerns := func(list string) bool { return !known || list == "" || list == podUID }
	for uid, l := range c.lists {
		l.stale = l.stale || concerns(uid)
	}
	for l := range c.loads {
		l.stale = l.stale || l.container == id || l.list && concerns(l.podUID)
	}
}

// belongs notes the pod of a container, so that a change to the container does not drop the
// lists of other pods.
func (c *Containers) belongs(id, podUID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pods[id] = podUID
}

// happened is called for each event.
func (c *Containers) happened(id string, action events.Action) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.change(id)
	switch action {
	case events.ActionDie:
		c.dead[id] = true
	case events.ActionOOM:
		c.oom[id] = true
	case events.ActionStart:
		delete(c.dead, id)
		delete(c.failed, id)
	case events.ActionDestroy:
		delete(c.dead, id)
		delete(c.failed, id)
		delete(c.oom, id)
		delete(c.pods, id)
	}
}

// OutOfMemory reports whether the kernel has killed in the container for lack of memory.
func (c *Containers) OutOfMemory(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.oom[id]
}

// StartFailed notes that Docker could not start a container. Start does so by itself.
func (c *Containers) StartFailed(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.change(id)
	c.failed[id] = true
}

// List returns our containers, newest first: all of them, or with podUID those of one pod.
// The items are shared and must not be changed.
func (c *Containers) List(ctx context.Context, podUID string) ([]Item, error) {
	c.mu.Lock()
	known := c.lists[podUID]
	if known != nil && c.live && !known.stale && time.Since(known.asOf) < c.age {
		defer c.mu.Unlock()
		return c.overlay(known.items), nil
	}
	l := &load{list: true, podUID: podUID}
	c.loads[l] = true
	c.mu.Unlock()

	asOf := time.Now()
	items, body, err := c.load(ctx, podUID, known)

	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.loads, l)
	if err != nil {
		return nil, err
	}
	if podUID == "" && !l.stale {
		c.forgetGone(items)
	}
	for i := range items {
		it := &items[i]
		c.pods[it.ID] = it.Labels[LabelPodUID]
		// An event was lost, or the list lags: whoever asks next finds out.
		if r := c.inspected[it.ID]; !l.stale && r != nil && r.State != nil && r.State.Running != (it.State == StateRunning) {
			delete(c.inspected, it.ID)
		}
	}
	if c.live {
		if podUID != "" && len(c.lists) > keptLists {
			c.lists = map[string]*list{"": c.lists[""]}
			if c.lists[""] == nil {
				delete(c.lists, "")
			}
		}
		c.lists[podUID] = &list{asOf: asOf, stale: l.stale, body: body, items: items}
	}
	return c.overlay(items), nil
}

// forgetGone drops what is known of containers that a list of all does not have: their
// removal may have been missed while the event stream was broken. The caller holds mu.
func (c *Containers) forgetGone(items []Item) {
	there := make(map[string]bool, len(items))
	for i := range items {
		there[items[i].ID] = true
	}
	for _, of := range []map[string]bool{c.dead, c.failed, c.oom} {
		maps.DeleteFunc(of, func(id string, _ bool) bool { return !there[id] })
	}
	maps.DeleteFunc(c.pods, func(id, _ string) bool { return !there[id] })
	maps.DeleteFunc(c.inspected, func(id string, _ *container.InspectResponse) bool { return !there[id] })
}

// keptLists bounds how many lists are remembered.
const keptLists = 64

// load lists; where Docker sends the same again, it returns the items of known.
func (c *Containers) load(ctx context.Context, podUID string, known *list) ([]Item, []byte, error) {
	body, err := c.ask(ctx, podUID)
	if err != nil {
		return nil, nil, err
	}
	if known != nil && bytes.Equal(known.body, body) {
		return known.items, body, nil
	}
	items, err := parseList(body)
	return items, body, err
}

// ask makes Docker list containers.
func (c *Containers) ask(ctx context.Context, podUID string) ([]byte, error) {
	args := filters.NewArgs(filters.Arg("label", c.label))
	if podUID != "" {
		args.Add("label", LabelPodUID+"="+podUID)
	}
	filter, err := filters.ToJSON(args)
	if err != nil {
		return nil, err
	}
	resp, err := c.engine.get(ctx, "/containers/json", url.Values{"all": {"1"}, "filters": {filter}}.Encode())
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

// overlay corrects a list by events and failed starts. The caller holds mu.
func (c *Containers) overlay(items []Item) []Item {
	if len(c.dead) == 0 && len(c.failed) == 0 {
		return items
	}
	var corrected []Item
	for i, it := range items {
		state := it.State
		switch {
		case state == StateRunning && c.dead[it.ID], state == StateCreated && c.failed[it.ID]:
			state = StateExited
		case state == StateExited:
			delete(c.dead, it.ID)
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

// takeOver strips an inspected container of the labels that we did not give it, and reports
// whether the container is ours.
func (c *Containers) takeOver(r *container.InspectResponse) bool {
	if r.Config == nil || r.ContainerJSONBase == nil {
		return false
	}
	r.Config.Labels = trusted(r.Config.Labels)
	_, named := IdentityOf(r.Name, r.Config.Labels)
	return named && LabelStateDir+"="+r.Config.Labels[LabelStateDir] == c.label
}

// idLetters are those of IDs and names in Docker. The client library makes a path of an ID, and
// one with other letters could lead to anything that Docker serves.
const idLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-"

// Inspect returns one of our containers, found by its ID or a prefix of that, with only the
// labels that we gave it. The answer is shared and must not be changed. For a container that
// does not exist or is not ours, the error is an errdefs.ErrNotFound.
func (c *Containers) Inspect(ctx context.Context, id string) (*container.InspectResponse, error) {
	if strings.ContainsFunc(id, func(r rune) bool { return !strings.ContainsRune(idLetters, r) }) || strings.HasPrefix(id, ".") {
		return nil, failed(errdefs.ErrNotFound, "container %q does not exist", id)
	}
	c.mu.Lock()
	if r := c.inspected[id]; r != nil {
		c.mu.Unlock()
		return r, nil
	}
	l := &load{container: id}
	c.loads[l] = true
	c.mu.Unlock()

	r, err := c.engine.ContainerInspect(ctx, id)

	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.loads, l)
	if err != nil {
		return nil, err
	}
	if !c.takeOver(&r) {
		return nil, failed(errdefs.ErrNotFound, "container %q does not exist", id)
	}
	// A prefix finds the container too, but changes are known by full IDs only.
	if c.live && !l.stale && id == r.ID {
		c.inspected[id] = &r
	}
	return &r, nil
}
