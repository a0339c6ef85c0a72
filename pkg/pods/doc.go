// Package pods is the vocabulary of one pod: what the agent's other packages need to
// know about a pod, whatever they do with it. It is pure: it neither acts nor
// remembers.
//
//	identity    static, mirror, critical; which source wants it
//	containers  of all kinds, in order; by name; sidecars; finished pods
//	labels      identity and records on sandboxes and containers, read back
//	qos, units  QoS class; CPU shares and quota, sizes of huge pages
//	logs        where a pod's and a container's logs are
//	downward/   the fields of a pod that it may ask for itself
//	actual/     what was observed of a pod at the runtime, beside what is wanted
package pods
