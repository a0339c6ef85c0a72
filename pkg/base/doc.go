// Package base is the wing for what any package may use and that knows nothing of pods'
// lives. It has no code of its own; its rooms are:
//
//	durable, safefile       files that survive a crash; files that a container can write to
//	tree, diskusage         directory trees: walked and removed; measured
//	hostdir, dirwatch       missing directories of the host that a pod mounts; changes in directories
//	keylock, timequeue      locks by name; a queue by time
//	shared                  work done once for all who want its result
//	retry, logonce          trying again with a back-off; logging repeated failures once
//	hangup                  a client that has gone although nobody reads its input
//	grpcsocket, ownsocket   sockets: of a gRPC server, of the administrator alone
//	pluginregistry          plug-ins that register with the node
//	program, stopsignal     programs of others, and the signals that end a container
//	cgroupstats, netdump    what the kernel tells: use of cgroups; links, addresses and routes
//	metricset               the metrics of one room
//	recovery                a panic ends one call, not the agent
//	bounds                  limits on what a spec may write at any length
//	visible                 text of others, shown on a terminal
//	crimeta                 what CRI has no field for, from the agent to the dockershim
package base
