package devicemanager

import (
	"maps"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
)

// stopGrace is how long the node goes on having a resource whose plug-in has gone, with none to give. The
// kubelet's endpointStopGracePeriod.
const stopGrace = 5 * time.Minute

// offer is one resource: what plug-ins say of it.
type offer struct {
	// plugins are those that are registered for it, the newest last. It is the newest that has listed
	// devices that counts and is asked; the others take its place when it goes.
	plugins []*plugin
	// devices are those of the last list that counted, also after its plug-in has gone.
	devices map[string]device
	// gone is when the last plug-in went, or the agent started without one; zero: there is one.
	gone time.Time
	// early is true from the agent's start until a plug-in has listed devices.
	early bool
	// preStart is whether the plug-in that registered last wants to be asked before each start of a container, also after
	// it has gone.
	preStart bool
	// removed is true once the grace is over: the node has no such resource any more.
	removed bool
}

// current is the plug-in that is asked, the newest that has listed devices; nil: there is none.
func (o *offer) current() *plugin {
	if o == nil {
		return nil
	}
	for _, p := range slices.Backward(o.plugins) {
		if p.devices != nil {
			return p
		}
	}
	return nil
}

// newest is the plug-in that registered last, whether it has listed devices yet or not; nil: there is none.
func (o *offer) newest() *plugin {
	if o == nil || len(o.plugins) == 0 {
		return nil
	}
	return o.plugins[len(o.plugins)-1]
}

// healthy returns the devices that can be given to containers, in no order.
func (o *offer) healthy() map[string]device {
	if o.current() == nil {
		return nil
	}
	list := map[string]device{}
	for id, d := range o.devices {
		if d.healthy {
			list[id] = d
		}
	}
	return list
}

// health says in the words of the API how a device is.
func (o *offer) health(id string) v1.ResourceHealthStatus {
	switch {
	case o.current() == nil:
		return v1.ResourceHealthStatusUnknown
	case o.devices[id].healthy:
		return v1.ResourceHealthStatusHealthy
	}
	return v1.ResourceHealthStatusUnhealthy
}

// serve makes the list of the plug-in that counts the one that counts.
func (o *offer) serve(now time.Time) {
	if len(o.plugins) == 0 {
		if o.gone.IsZero() {
			o.gone = now
		}
		return
	}
	o.gone, o.removed, o.preStart = time.Time{}, false, o.newest().options.GetPreStartRequired()
	if p := o.current(); p != nil {
		o.early, o.devices = false, p.devices
	}
}

// offers are all resources by name.
type offers map[string]*offer

// expire removes the resources whose plug-ins have been gone for too long, and returns their names and when
// the next one is due; zero: none is.
func (all offers) expire(now time.Time) (removed []string, next time.Time) {
	for name, o := range all {
		if o.gone.IsZero() || o.removed {
			continue
		}
		due := o.gone.Add(stopGrace)
		if !now.Before(due) {
			o.removed, o.devices = true, nil
			removed = append(removed, name)
		} else if next.IsZero() || due.Before(next) {
			next = due
		}
	}
	slices.Sort(removed)
	return removed, next
}

// registered lists the resources that plug-ins have registered and the healthy devices of each, for the
// checkpoint.
func (all offers) registered() map[string][]string {
	out := map[string][]string{}
	for name, o := range all {
		if !o.removed {
			out[name] = append([]string{}, slices.Sorted(maps.Keys(o.healthy()))...)
		}
	}
	return out
}

// Resources is what the node has of extended resources by its device plug-ins.
type Resources struct {
	// Capacity counts all devices, Allocatable the healthy ones. What a plug-in was registered for once, and
	// is not any more, is in both with zero: so it differs from the resources of a cluster, which no node has.
	Capacity, Allocatable v1.ResourceList
}

// resources counts the devices.
func (all offers) resources() Resources {
	r := Resources{v1.ResourceList{}, v1.ResourceList{}}
	for name, o := range all {
		r.Capacity[v1.ResourceName(name)] = *apiresource.NewQuantity(int64(len(o.devices)), apiresource.DecimalSI)
		r.Allocatable[v1.ResourceName(name)] = *apiresource.NewQuantity(int64(len(o.healthy())), apiresource.DecimalSI)
	}
	return r
}
