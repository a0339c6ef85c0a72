// Package devicemanager gives containers the devices that device plug-ins offer (API v1beta1,
// k8s.io/kubelet/pkg/apis/deviceplugin): GPUs, network functions, whatever a plug-in counts as an extended
// resource.
//
//	plug-in ──Register on kubelet.sock, or plugins_registry──▶ server.go, plugin.go
//	        ──ListAndWatch──▶ offers.go: which devices there are, of them healthy ──▶ node status, container status
//	pod ──admission──▶ plan.go: devices are reserved, nobody is asked
//	    ──worker─────▶ grant.go: the plug-in is asked (GetPreferredAllocation, Allocate), its answer checked and put on record
//	    ──container──▶ PreStartContainer; device nodes, mounts, variables, annotations and CDI names from the record
//
// A plug-in is asked by the worker of the pod that wants its devices and by nobody else: one that hangs
// holds up this pod, until the call's deadline. What it says is bounded and checked before it is used (check.go). What
// a container was given it keeps as long as its pod lives, whatever becomes of the plug-in, also over a restart
// of the agent: checkpoint has the kubelet's file.
package devicemanager
