package config

// verdict is what this agent does with a setting that the kubelet knows.
type verdict string

const (
	honoured    verdict = "honoured"
	notHonoured verdict = "not honoured" // set to something other than what happens anyway: one warning
)

// field is one line of the table of every KubeletConfiguration field. A test
// compares the table with the upstream type.
type field struct {
	path string
	verdict
	// does is, for a field that is not honoured, the JSON value that describes what
	// happens anyway, so that setting that value is not worth a warning. Empty: the
	// default's value. "*": any value.
	does string
	text string // what the field is for; also the help of its flag
}

// fields lists every leaf of KubeletConfiguration in the order of the type. When a
// part of the agent starts to act on a field, change its verdict here, and run `go
// test ./pkg/config -update` to rewrite docs/configuration.md.
var fields = []field{
	{"enableServer", honoured, "", "serve the kubelet API; standalone, at its port once authentication.x509.clientCAFile is set or anonymous.enabled, and always at the local socket"},
	{"staticPodPath", honoured, "", "manifest file, or directory of manifests, of the pods to run"},
	{"podLogsDir", honoured, "", "directory under which container logs are kept"},
	{"syncFrequency", honoured, "", "how long a pod may go without being synchronised with its containers"},
	{"fileCheckFrequency", honoured, "", "how often the manifests are read again; changes are seen at once besides"},
	{"httpCheckFrequency", honoured, "", "how often the manifest URL is asked"},
	{"staticPodURL", honoured, "", "URL that answers with the manifests of pods to run"},
	{"staticPodURLHeader", honoured, "", "HTTP headers for the manifest URL, as key:value"},
	{"address", honoured, "", "IP address to serve on; standalone, port 10255 stays on 127.0.0.1 unless readOnlyPort is set as well"},
	{"port", honoured, "", "port of the kubelet API, with TLS"},
	{"readOnlyPort", honoured, "", "port without authentication, 0 for none; standalone, 10255 unless set. It shows all pods, values of their environment included, to every user of this machine"},
	{"tlsCertFile", honoured, "", "serving certificate"},
	{"tlsPrivateKeyFile", honoured, "", "key of the serving certificate"},
	{"tlsCipherSuites", honoured, "", "TLS cipher suites that are allowed"},
	{"tlsCurvePreferences", honoured, "", "TLS key exchanges that are allowed, by number"},
	{"tlsMinVersion", honoured, "", "lowest TLS version, e.g. VersionTLS12"},
	{"rotateCertificates", honoured, "", "renew the client certificate before it expires"},
	{"serverTLSBootstrap", honoured, "", "request the serving certificate from the cluster"},
	{"authentication.x509.clientCAFile", honoured, "", "CA of the client certificates that are accepted"},
	{"authentication.webhook.enabled", honoured, "", "check bearer tokens by TokenReview; standalone there is nobody to ask, and every token is refused"},
	{"authentication.webhook.cacheTTL", honoured, "", "how long a token's answer is kept"},
	{"authentication.anonymous.enabled", honoured, "", "let requests without credentials in as system:anonymous"},
	{"authorization.mode", honoured, "", "AlwaysAllow or Webhook; standalone there is nobody to ask, and Webhook allows nothing"},
	{"authorization.webhook.cacheAuthorizedTTL", honoured, "", "how long a yes is kept"},
	{"authorization.webhook.cacheUnauthorizedTTL", honoured, "", "how long a no is kept"},
	{"registryPullQPS", honoured, "", "image pulls a second, 0 for no limit"},
	{"registryBurst", honoured, "", "image pulls that may start at once beyond registryPullQPS"},
	{"imagePullCredentialsVerificationPolicy", honoured, "", "when a pod must have the credentials for an image that is already present"},
	{"preloadedImagesVerificationAllowlist", honoured, "", "images that are exempt from that, for NeverVerifyAllowlistedImages"},
	{"eventRecordQPS", honoured, "", "events a second sent to the API server"},
	{"eventBurst", honoured, "", "events that may be sent at once beyond eventRecordQPS"},
	{"enableDebuggingHandlers", honoured, "", "serve logs, exec, attach and port-forward"},
	{"enableContentionProfiling", honoured, "", "profile blocking, for /debug/pprof/block"},
	{"healthzPort", honoured, "", "port of the health endpoint, 0 for none"},
	{"healthzBindAddress", honoured, "", "IP address of the health endpoint"},
	{"oomScoreAdj", honoured, "", "oom_score_adj of the agent's own process, as far as the host allows"},
	{"clusterDomain", honoured, "", "DNS domain of the cluster, searched by pods"},
	{"clusterDNS", honoured, "", "addresses of the cluster's DNS server"},
	{"streamingConnectionIdleTimeout", notHonoured, "*", "nothing: the kubelet of this release ignores it, too"},
	{"nodeStatusUpdateFrequency", honoured, "", "how often the node's status is computed"},
	{"nodeStatusReportFrequency", honoured, "", "how often an unchanged node status is reported"},
	{"nodeLeaseDurationSeconds", honoured, "", "how long the node's lease lasts"},
	{"imageMinimumGCAge", honoured, "", "how long an image is kept after it was first seen, used or not"},
	{"imageMaximumGCAge", honoured, "", "how long an unused image is kept while there is room, 0 for ever; counted from the start of the agent at the earliest"},
	{"imageGCHighThresholdPercent", honoured, "", "usage of the images' file system that starts the removal of unused ones; 100 for never"},
	{"imageGCLowThresholdPercent", honoured, "", "usage at which it stops"},
	{"volumeStatsAggPeriod", honoured, "", "how often at most what a volume occupies is measured, while somebody asks for it; negative: never"},
	{"kubeletCgroups", honoured, "", "path of the cgroup that the agent moves itself into, made where it is missing and left by `reset`; where the host does not let it, it says so and stays where it was started"},
	{"systemCgroups", notHonoured, "", "cgroup of the machine's other processes: its statistics are those of the system container misc, and nothing is moved into it. systemd has put every process into a cgroup, and what a kubelet has moved is moved back by a reboot only"},
	{"cgroupRoot", honoured, "", "cgroup above those of pods, made where it is missing and left by `reset`; agents on one machine need one each"},
	{"cgroupsPerQOS", honoured, "", "keep pods in cgroups by QoS class"},
	{"cgroupDriver", honoured, "", "cgroupfs or systemd; empty: what Docker uses"},
	{"cpuManagerPolicy", honoured, "", "how CPUs are given to containers: none, or static for CPUs of their own to Guaranteed pods that request whole ones"},
	{"singleProcessOOMKill", honoured, "", "true: the kernel kills one process of a container that is out of memory, not all; false needs cgroup v2 and a runtime that can be told. Docker cannot: there it is true"},
	{"cpuManagerPolicyOptions", honoured, "", "options of the static policy: full-pcpus-only, strict-cpu-reservation and distribute-cpus-across-numa; the others are refused"},
	{"cpuManagerReconcilePeriod", honoured, "", "how often the CPU manager looks again; changes are followed at once besides"},
	{"memoryManagerPolicy", honoured, "", "None, or Static: memory and huge pages of Guaranteed pods are of as few NUMA nodes as hold them"},
	{"topologyManagerPolicy", honoured, "", "whether what containers have to themselves is of the same NUMA nodes: none, best-effort, restricted (pods for which it could be and is not are rejected) or single-numa-node (all pods for which it is not)"},
	{"topologyManagerScope", honoured, "", "align each container, or the pod as a whole"},
	{"topologyManagerPolicyOptions", honoured, "", "prefer-closest-numa-nodes, and max-allowable-numa-nodes (8, it can be raised); not looked at with the policy none"},
	{"qosReserved", notHonoured, "*", "memory reserved for a QoS class, in percent; needs the feature gate QOSReserved, alpha, which cannot be switched here. It is checked, and warned about"},
	{"runtimeRequestTimeout", honoured, "", "longest a runtime request may take, pulls and the like excepted"},
	{"hairpinMode", honoured, "", "how a pod reaches itself by its service: promiscuous-bridge, hairpin-veth or none"},
	{"maxPods", honoured, "", "most pods on this node"},
	{"podCIDR", honoured, "", "addresses for pods on a standalone node, given to the runtime: one CIDR, or one of each family separated by a comma. In a cluster the node object says them"},
	{"podPidsLimit", honoured, "", "most processes in a pod; without it pods share what the machine has, as with the kubelet"},
	{"resolvConf", honoured, "", "resolver configuration that the pods' is made from; empty: none"},
	{"runOnce", notHonoured, "", "nothing: the kubelet refuses it by now"},
	{"cpuCFSQuota", honoured, "", "enforce CPU limits by CFS quota"},
	{"cpuCFSQuotaPeriod", honoured, "", "period of the CFS quota"},
	{"nodeStatusMaxImages", honoured, "", "most images listed in the node's status, -1 for all"},
	{"maxOpenFiles", honoured, "", "files that the agent may have open, as far as the host allows"},
	{"contentType", honoured, "", "content type of requests to the API server"},
	{"kubeAPIQPS", honoured, "", "requests a second to the API server"},
	{"kubeAPIBurst", honoured, "", "requests that may be sent at once beyond kubeAPIQPS"},
	{"serializeImagePulls", honoured, "", "pull one image at a time"},
	{"maxParallelImagePulls", honoured, "", "most images pulled at a time when not serialised"},
	{"evictionHard", honoured, "", "signals and thresholds at which pods are evicted at once, and that much is left out of allocatable; standalone, pods are evicted if this or evictionSoft is set"},
	{"evictionSoft", honoured, "", "signals and thresholds at which pods are evicted after a while"},
	{"evictionSoftGracePeriod", honoured, "", "how long a soft threshold has to be exceeded"},
	{"evictionPressureTransitionPeriod", honoured, "", "how long a pressure condition is kept"},
	{"evictionMaxPodGracePeriod", honoured, "", "longest grace period of a pod that is evicted at a soft threshold, in seconds"},
	{"evictionMinimumReclaim", honoured, "", "how much more than the threshold has to be left again before eviction ends"},
	{"mergeDefaultEvictionSettings", honoured, "", "keep the default thresholds of evictionHard beside those set"},
	{"podsPerCore", honoured, "", "most pods per CPU core, 0 for no such limit"},
	{"enableControllerAttachDetach", notHonoured, "true", "leave attaching volumes to the controller; false has no effect: what a kubelet could attach itself is gone, and a node may not attach CSI volumes"},
	{"protectKernelDefaults", honoured, "", "refuse to start when kernel parameters are not as the kubelet would set them, and set none"},
	{"makeIPTablesUtilChains", honoured, "", "make the iptables chains KUBE-IPTABLES-HINT and KUBE-FIREWALL; standalone, false unless set"},
	{"iptablesMasqueradeBit", notHonoured, "*", "nothing: the kubelet of this release ignores it, too"},
	{"iptablesDropBit", notHonoured, "*", "nothing: the kubelet of this release ignores it, too"},
	{"featureGates", honoured, "", "features to switch on or off, by name: MemoryQoS, DefaultPodSysctls, ContextualLogging, LoggingAlphaOptions, LoggingBetaOptions; all others are as the kubelet has them by default, with a warning if they are asked to be different. One that Kubernetes does not know or has locked is an error"},
	{"failSwapOn", honoured, "", "refuse to start while swap is on"},
	{"memorySwap.swapBehavior", honoured, "", "NoSwap: pods use no swap (with cgroup v1: containers that have a limit of memory); LimitedSwap: Burstable pods use some, by their memory requests, with cgroup v2 only, and no static ones"},
	{"containerLogMaxSize", honoured, "", "size at which a container's log is rotated; negative: never"},
	{"containerLogMaxFiles", honoured, "", "most log files of a container"},
	{"containerLogMaxWorkers", honoured, "", "logs rotated at a time, and as many compressed"},
	{"containerLogMonitorInterval", honoured, "", "how often logs are looked at"},
	{"configMapAndSecretChangeDetectionStrategy", honoured, "", "how changes of ConfigMaps and Secrets are found"},
	{"systemReserved", honoured, "", "resources kept from pods for the system: taken off allocatable"},
	{"kubeReserved", honoured, "", "resources kept from pods for the node's Kubernetes parts: taken off allocatable"},
	{"reservedSystemCPUs", honoured, "", "CPUs kept from pods by number, in the place of the cpu of systemReserved and kubeReserved"},
	{"showHiddenMetricsForVersion", honoured, "", "show metrics that were hidden since that version, which must be the previous minor release; none is hidden here"},
	{"systemReservedCgroup", honoured, "", "cgroup on which systemReserved is enforced, if enforceNodeAllocatable says so; it must be there"},
	{"kubeReservedCgroup", honoured, "", "cgroup on which kubeReserved is enforced, if enforceNodeAllocatable says so; it must be there"},
	{"enforceNodeAllocatable", honoured, "", "what limits are set on: pods (all of them together), system-reserved, kube-reserved (the cgroups of these), either with -compressible (only the share of CPU); or none"},
	{"allowedUnsafeSysctls", honoured, "", "unsafe sysctls that pods may set"},
	{"defaultPodSysctls", honoured, "", "sysctls of every pod that does not set them; needs the feature gate DefaultPodSysctls, alpha, without which it is refused"},
	{"volumePluginDir", notHonoured, "", "directory of FlexVolume plug-ins, which are not in this agent: a pod with a flexVolume is refused by name"},
	{"providerID", honoured, "", "identity of the machine at its cloud"},
	{"kernelMemcgNotification", honoured, "", "hear of memory thresholds from the kernel; done wherever it can, set or not"},
	{"logging.format", honoured, "", "text or json"},
	{"logging.flushFrequency", honoured, "", "how often logs are flushed"},
	{"logging.verbosity", honoured, "", "log level: 0 little, 2 one line a decision, 4 every step"},
	{"logging.vmodule", honoured, "", "log levels per source file, as file=N,..."},
	{"logging.options.text.splitStream", honoured, "", "write info to standard output and errors to standard error; needs the feature gate LoggingAlphaOptions"},
	{"logging.options.text.infoBufferSize", honoured, "", "buffer of the info stream; needs the feature gate LoggingAlphaOptions"},
	{"logging.options.json.splitStream", honoured, "", "the same for the format json"},
	{"logging.options.json.infoBufferSize", honoured, "", "the same for the format json"},
	{"enableSystemLogHandler", honoured, "", "serve /logs/; off unless set, unlike the kubelet"},
	{"enableSystemLogQuery", honoured, "", "answer /logs/?query= with the log of services or a file of /var/log; needs enableSystemLogHandler"},
	{"shutdownGracePeriod", honoured, "", "how long a shutdown of the machine waits for pods, by logind; 0: not at all"},
	{"shutdownGracePeriodCriticalPods", honoured, "", "part of it that is for critical pods"},
	{"shutdownGracePeriodByPodPriority", honoured, "", "the same by pod priority"},
	{"crashLoopBackOff.maxContainerRestartPeriod", honoured, "", "longest wait between restarts of a crashing container"},
	{"reservedMemory", honoured, "", "with memoryManagerPolicy Static, on which NUMA nodes the memory is that the node keeps from pods: together systemReserved, kubeReserved and the hard eviction threshold of memory"},
	{"enableProfilingHandler", honoured, "", "serve /debug/pprof/"},
	{"enableDebugFlagsHandler", honoured, "", "serve /debug/flags/v, which changes the log's verbosity"},
	{"seccompDefault", honoured, "", "RuntimeDefault as the seccomp profile of pods that name none"},
	{"memoryThrottlingFactor", honoured, "", "memory.high as part of the way from request to limit, with MemoryQoS; unset, nothing is slowed down; once the feature is off, a container is freed of it by its next resize. Docker cannot be told"},
	{"memoryReservationPolicy", honoured, "", "TieredReservation, with MemoryQoS: memory.min of Guaranteed pods and memory.low of others, by their requests"},
	{"registerWithTaints", honoured, "", "taints of the node at registration"},
	{"registerNode", honoured, "", "register the node with the API server"},
	{"tracing.endpoint", honoured, "", "where traces are sent, by OTLP over gRPC without TLS; localhost:4317 unless set, where tracing is there at all"},
	{"tracing.samplingRatePerMillion", honoured, "", "traces that are begun, of a million; without it only those that a caller of the kubelet API has begun are continued"},
	{"localStorageCapacityIsolation", honoured, "", "offer ephemeral storage to pods, and evict those that exceed their limits of it"},
	{"containerRuntimeEndpoint", honoured, "", "CRI socket; empty: the built-in dockershim"},
	{"imageServiceEndpoint", honoured, "", "CRI socket for images; empty: that of the runtime"},
	{"failCgroupV1", honoured, "", "refuse to start on cgroup v1; false unless set, unlike the kubelet"},
	{"userNamespaces.idsPerPod", notHonoured, "", "user IDs of a pod's user namespace; pods with hostUsers: false are refused by name"},
}

var fieldsByPath = func() map[string]field {
	m := make(map[string]field, len(fields))
	for _, f := range fields {
		m[f.path] = f
	}
	return m
}()
