package config

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"k8s.io/utils/cpuset"

	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
)

// checker collects problems, each with its place, its field and its cause.
type checker struct {
	origins origins
	errs    []error
}

func (k *checker) want(ok bool, path, format string, args ...any) {
	if !ok {
		k.errs = append(k.errs, fmt.Errorf("%s: %s", k.origins.at(path), fmt.Sprintf(format, args...)))
	}
}

func between[T cmp.Ordered](k *checker, path string, v, low, high T) {
	k.want(low <= v && v <= high, path, "must be between %v and %v, got %v", low, high, v)
}

func atLeast[T cmp.Ordered](k *checker, path string, v, low T) {
	k.want(low <= v, path, "must be at least %v, got %v", low, v)
}

func oneOf(k *checker, path, v string, allowed ...string) {
	k.want(slices.Contains(allowed, v), path, "must be one of %s, got %q", strings.Join(allowed, ", "), v)
}

func (k *checker) positive(path string, d time.Duration) {
	k.want(d > 0, path, "must be longer than 0s, got %s", d)
}

// validate checks what this agent acts on, and enforces the kubelet's limits where
// a wrong value would be taken for a right one. It reports all problems.
func (c *Config) validate() error {
	k := &checker{origins: c.origins}
	c.validateServing(k)
	c.validatePods(k)
	c.validateRuntime(k)
	c.validateLogs(k)
	c.validateNode(k)
	c.validateRare(k)
	k.want(!c.Teach || c.Standalone(), "--teach", "is for standalone nodes: a cluster must not wait for a person at this one")
	return errs(k.errs)
}

func (c *Config) validateServing(k *checker) {
	k.ip("address", c.Address)
	k.ip("healthzBindAddress", c.HealthzBindAddress)
	between(k, "port", c.Port, 1, 65535)
	between(k, "readOnlyPort", c.ReadOnlyPort, 0, 65535)
	between(k, "healthzPort", *c.HealthzPort, 0, 65535)
	if c.ReadOnlyPort != 0 {
		k.want(c.ReadOnlyPort != *c.HealthzPort, "readOnlyPort", "is the same as healthzPort (%d)", c.ReadOnlyPort)
		k.want(c.ReadOnlyPort != c.Port, "readOnlyPort", "is the same as port (%d)", c.ReadOnlyPort)
	}
	oneOf(k, "authorization.mode", string(c.Authorization.Mode), "AlwaysAllow", "Webhook")
	k.want((c.TLSCertFile == "") == (c.TLSPrivateKeyFile == ""), "tlsCertFile", "must be set together with tlsPrivateKeyFile")
}

func (k *checker) ip(path, s string) {
	_, err := netip.ParseAddr(s)
	k.want(err == nil, path, "must be an IP address, got %q", s)
}

func (c *Config) validatePods(k *checker) {
	k.positive("syncFrequency", c.SyncFrequency.Duration)
	k.positive("fileCheckFrequency", c.FileCheckFrequency.Duration)
	k.positive("httpCheckFrequency", c.HTTPCheckFrequency.Duration)
	if m := c.CrashLoopBackOff.MaxContainerRestartPeriod; m != nil {
		between(k, "crashLoopBackOff.maxContainerRestartPeriod", m.Duration, time.Second, 5*time.Minute)
	}
	if c.StaticPodURL != "" {
		u, err := url.Parse(c.StaticPodURL)
		ok := err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
		k.want(ok, "staticPodURL", "must be an http:// or https:// URL, got %q", redact(u, c.StaticPodURL))
	}
	for _, name := range slices.Sorted(maps.Keys(c.StaticPodURLHeader)) {
		k.want(validHeader(name), "staticPodURLHeader", "%q is not an HTTP header name", name)
	}
	// As in the kubelet, since metrics have it.
	k.want(!strings.ContainsFunc(c.PodLogsDir, func(r rune) bool { return r > unicode.MaxASCII }), "podLogsDir", "must be in ASCII, got %q", c.PodLogsDir)
	atLeast(k, "maxPods", c.MaxPods, 0)
	atLeast(k, "podsPerCore", c.PodsPerCore, 0)
	for i, s := range c.ClusterDNS {
		k.ip(fmt.Sprintf("clusterDNS[%d]", i), s)
	}
	if c.ClusterDomain != "" {
		problems := validation.IsDNS1123Subdomain(strings.TrimSuffix(c.ClusterDomain, "."))
		k.want(len(problems) == 0, "clusterDomain", "must be a DNS domain, got %q", c.ClusterDomain)
	}
	atLeast(k, "--maximum-dead-containers-per-container", c.MaxDeadPerContainer, -1)
	k.want(c.MinimumContainerTTL >= 0, "--minimum-container-ttl-duration", "must not be negative, got %s", c.MinimumContainerTTL)
}

// validateEviction checks what the rooms that act on it read again.
func (c *Config) validateEviction(k *checker) {
	if _, err := c.Eviction().Thresholds(); err != nil {
		field, problem, _ := strings.Cut(err.Error(), ": ")
		k.want(false, field, "%s", problem)
	}
	atLeast(k, "evictionMaxPodGracePeriod", c.EvictionMaxPodGracePeriod, 0)
	k.want(c.EvictionPressureTransitionPeriod.Duration >= 0, "evictionPressureTransitionPeriod", "must not be negative, got %s", c.EvictionPressureTransitionPeriod.Duration)
}

// Eviction returns how the thresholds of eviction are configured.
func (c *Config) Eviction() options.Eviction {
	return options.Eviction{
		Hard: c.EvictionHard, Soft: c.EvictionSoft, SoftGracePeriod: c.EvictionSoftGracePeriod, MinimumReclaim: c.EvictionMinimumReclaim,
		Allocatable: slices.Contains(c.EnforceNodeAllocatable, "pods"),
	}
}

// EvictionChosen reports whether somebody has set thresholds, rather than left it to the defaults.
func (c *Config) EvictionChosen() bool {
	return c.origins.has("evictionHard") || c.origins.has("evictionSoft")
}

// redact removes the password in a URL from an error.
func redact(u *url.URL, raw string) string {
	if u == nil {
		return "something else"
	}
	if u.User != nil {
		return u.Redacted()
	}
	return raw
}

// validHeader reports whether s is a token of RFC 9110, as header names must be.
func validHeader(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
		return !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
	})
}

func (c *Config) validateRuntime(k *checker) {
	k.endpoint("containerRuntimeEndpoint", c.ContainerRuntimeEndpoint, "unix")
	k.endpoint("imageServiceEndpoint", c.ImageServiceEndpoint, "unix")
	k.endpoint("--dockershim-socket", c.DockershimSocket, "unix")
	k.endpoint("--docker-endpoint", c.DockerEndpoint, "unix", "tcp", "http", "https")
	k.want(c.DockershimSocket != "", "--dockershim-socket", "must not be empty")
	k.want(c.DockerEndpoint != "", "--docker-endpoint", "must not be empty")
	k.want(c.RootDir != "/", "--root-dir", "must not be /")
	k.want(c.DockershimRootDir != "/", "--dockershim-root-directory", "must not be /")
	if c.CgroupDriver != "" {
		oneOf(k, "cgroupDriver", c.CgroupDriver, "cgroupfs", "systemd")
	}
	oneOf(k, "hairpinMode", c.HairpinMode, kubeletconfig.PromiscuousBridge, kubeletconfig.HairpinVeth, kubeletconfig.HairpinNone)
	oneOf(k, "--manifest-validation", c.ManifestValidation, ManifestStrict, ManifestWarn)
	if c.MemorySwap.SwapBehavior != "" {
		oneOf(k, "memorySwap.swapBehavior", c.MemorySwap.SwapBehavior, NoSwap, LimitedSwap)
	}
	if c.KernelSettings != "" {
		oneOf(k, "--kernel-settings", c.KernelSettings, KernelSet, KernelLeave)
	}
	c.validateNetwork(k)
	if c.NonMasqueradeCIDR != "" {
		_, err := netip.ParsePrefix(c.NonMasqueradeCIDR)
		k.want(err == nil, "--non-masquerade-cidr", "must be a CIDR such as 10.0.0.0/8, got %q", c.NonMasqueradeCIDR)
	}
	if p := c.CPUCFSQuotaPeriod; p != nil {
		between(k, "cpuCFSQuotaPeriod", p.Duration, time.Millisecond, time.Second) // the kernel's bounds
	}
	k.positive("runtimeRequestTimeout", c.RuntimeRequestTimeout.Duration)
	k.positive("--image-pull-progress-deadline", c.ImagePullProgressDeadline)
	atLeast(k, "registryPullQPS", *c.RegistryPullQPS, 0)
	atLeast(k, "registryBurst", c.RegistryBurst, 0)
	if m := c.MaxParallelImagePulls; m != nil {
		atLeast(k, "maxParallelImagePulls", *m, 1)
		k.want(*m <= 1 || !*c.SerializeImagePulls, "maxParallelImagePulls", "cannot be %d while serializeImagePulls is true", *m)
	}
	c.validateCPUs(k)
	c.validateAllocatable(k)
	c.validateMemoryQoS(k)
	c.validateVerification(k)
}

// validateLogs has the kubelet's limits.
func (c *Config) validateLogs(k *checker) {
	_, err := options.ParseLogSize(c.ContainerLogMaxSize)
	k.want(err == nil, "containerLogMaxSize", "%v", err)
	atLeast(k, "containerLogMaxFiles", *c.ContainerLogMaxFiles, 2)
	atLeast(k, "containerLogMaxWorkers", *c.ContainerLogMaxWorkers, 1)
	atLeast(k, "containerLogMonitorInterval", c.ContainerLogMonitorInterval.Duration, 3*time.Second)
}

func (c *Config) validateMemoryQoS(k *checker) {
	if f := c.MemoryThrottlingFactor; f != nil && (*f <= 0 || *f > 1) {
		k.want(false, "memoryThrottlingFactor", "must be greater than 0 and at most 1, got %v", *f)
	}
	const tiered = kubeletconfig.TieredReservationMemoryReservationPolicy
	oneOf(k, "memoryReservationPolicy", string(c.MemoryReservationPolicy), string(kubeletconfig.NoneMemoryReservationPolicy), string(tiered))
	k.want(c.Enabled(MemoryQoS) || c.MemoryReservationPolicy != tiered, "memoryReservationPolicy", "%s needs featureGates: {MemoryQoS: true}", tiered)
}

// validateAllocatable is the kubelet's, but that pods, the default, stands without cgroups for pods
// unless somebody has set it.
func (c *Config) validateAllocatable(k *checker) {
	const field, compressible = "enforceNodeAllocatable", "-compressible"
	given := c.EnforceNodeAllocatable
	for i, what := range given {
		k.want(!slices.Contains(given[:i], what), field, "has %q twice", what)
		kind, reserved := strings.CutSuffix(strings.TrimSuffix(what, compressible), "-reserved")
		switch {
		case what == "none":
			k.want(len(given) == 1, field, "cannot have anything beside none")
		case what == "pods":
			k.want(*c.CgroupsPerQOS || !c.origins.has(field), field, "pods needs cgroupsPerQOS: true")
		case reserved && (kind == "system" || kind == "kube"):
			group := map[string]string{"system": c.SystemReservedCgroup, "kube": c.KubeReservedCgroup}[kind]
			k.want(group != "", field, "%s needs %sReservedCgroup, the cgroup to enforce it on", what, kind)
			k.want(*c.CgroupsPerQOS, field, "%s needs cgroupsPerQOS: true", what)
			k.want(!slices.Contains(given, what+compressible), field, "cannot have both %s and %[1]s%s", what, compressible)
		default:
			k.want(false, field, "must be made of pods, system-reserved, system-reserved-compressible, kube-reserved, kube-reserved-compressible or be none, got %q", what)
		}
	}
}

// validateReservedMemory checks reservedMemory as far as the machine need not be known.
func (c *Config) validateReservedMemory(k *checker) {
	seen := map[string]bool{}
	for _, r := range c.ReservedMemory {
		for _, name := range slices.Sorted(maps.Keys(r.Limits)) {
			q, place := r.Limits[name], fmt.Sprintf("NUMA node %d and resource %q", r.NumaNode, name)
			k.want(name == v1.ResourceMemory || strings.HasPrefix(string(name), v1.ResourceHugePagesPrefix), "reservedMemory", "the limit type %q for NUMA node %d is not supported, only memory and hugepages-<size> are", name, r.NumaNode)
			k.want(q.Sign() > 0, "reservedMemory", "reserved memory must be more than zero for %s", place)
			k.want(!seen[place], "reservedMemory", "the reserved memory has a duplicate value for %s", place)
			seen[place] = true
		}
	}
}

func (c *Config) validateCPUs(k *checker) {
	oneOf(k, "cpuManagerPolicy", c.CPUManagerPolicy, "none", "static")
	k.positive("cpuManagerReconcilePeriod", c.CPUManagerReconcilePeriod.Duration)
	_, err := options.ParseCPUManager(c.CPUManagerPolicyOptions)
	k.want(err == nil, "cpuManagerPolicyOptions", "%v", err)
	k.want(c.CPUManagerPolicy != "none" || len(c.CPUManagerPolicyOptions) == 0, "cpuManagerPolicyOptions", "cannot be set with cpuManagerPolicy none, which has no options")
	oneOf(k, "topologyManagerPolicy", c.TopologyManagerPolicy, "none", "best-effort", "restricted", "single-numa-node")
	oneOf(k, "topologyManagerScope", c.TopologyManagerScope, "container", "pod")
	if c.TopologyManagerPolicy != "none" { // which has no options, and the kubelet does not look at them
		_, err := options.ParseTopologyManager(c.TopologyManagerPolicyOptions)
		k.want(err == nil, "topologyManagerPolicyOptions", "%v", err)
	}
	oneOf(k, "memoryManagerPolicy", c.MemoryManagerPolicy, kubeletconfig.NoneMemoryManagerPolicy, kubeletconfig.StaticMemoryManagerPolicy)
	c.validateReservedMemory(k)
	if c.ReservedSystemCPUs != "" {
		_, err := cpuset.Parse(c.ReservedSystemCPUs)
		k.want(err == nil, "reservedSystemCPUs", "must be a list of CPUs such as 0-1,4, got %q", c.ReservedSystemCPUs)
		k.want(c.SystemReservedCgroup == "" && c.KubeReservedCgroup == "", "reservedSystemCPUs", "cannot be set with systemReservedCgroup or kubeReservedCgroup")
	}
}

func (c *Config) validateVerification(k *checker) {
	const allowlist = kubeletconfig.NeverVerifyAllowlistedImages
	policy := string(c.ImagePullCredentialsVerificationPolicy)
	oneOf(k, "imagePullCredentialsVerificationPolicy", policy,
		string(kubeletconfig.NeverVerify), string(kubeletconfig.NeverVerifyPreloadedImages), string(allowlist), string(kubeletconfig.AlwaysVerify))
	k.want(len(c.PreloadedImagesVerificationAllowlist) == 0 || policy == string(allowlist), "preloadedImagesVerificationAllowlist",
		"is for imagePullCredentialsVerificationPolicy: %s only", allowlist)
	for i, pattern := range c.PreloadedImagesVerificationAllowlist {
		_, err := options.NewImageVerification(allowlist, []string{pattern})
		k.want(err == nil, fmt.Sprintf("preloadedImagesVerificationAllowlist[%d]", i), "%v", err)
	}
}

func (k *checker) endpoint(path, s string, schemes ...string) {
	if s == "" {
		return
	}
	scheme, rest, ok := strings.Cut(s, "://")
	ok = ok && slices.Contains(schemes, scheme) && rest != ""
	if scheme == "unix" {
		ok = ok && strings.HasPrefix(rest, "/")
	}
	k.want(ok, path, "must be an endpoint such as unix:///run/example.sock, got %q", s)
}

func (c *Config) validateNode(k *checker) {
	k.want(len(validation.IsDNS1123Subdomain(c.NodeName)) == 0, "--hostname-override",
		"the node's name must be a DNS name (letters, digits, '-' and '.'), got %q", c.NodeName)
	for i, s := range c.NodeIPs {
		k.ip(fmt.Sprintf("--node-ip[%d]", i), s)
	}
	c.validateLabelsAndTaints(k)
	k.positive("nodeStatusUpdateFrequency", c.NodeStatusUpdateFrequency.Duration)
	k.positive("nodeStatusReportFrequency", c.NodeStatusReportFrequency.Duration)
	between(k, "oomScoreAdj", *c.OOMScoreAdj, -1000, 1000)
	atLeast(k, "maxOpenFiles", c.MaxOpenFiles, 0)
	k.want(c.NodeLeaseDurationSeconds > 0, "nodeLeaseDurationSeconds", "must be greater than 0, got %d", c.NodeLeaseDurationSeconds)
	atLeast(k, "nodeStatusMaxImages", *c.NodeStatusMaxImages, -1)
	atLeast(k, "kubeAPIQPS", *c.KubeAPIQPS, 0)
	atLeast(k, "kubeAPIBurst", c.KubeAPIBurst, 0)
	atLeast(k, "eventRecordQPS", *c.EventRecordQPS, 0)
	atLeast(k, "eventBurst", c.EventBurst, 0)
	c.validateShutdown(k)
	high, low := *c.ImageGCHighThresholdPercent, *c.ImageGCLowThresholdPercent
	between(k, "imageGCHighThresholdPercent", high, 0, 100)
	between(k, "imageGCLowThresholdPercent", low, 0, 100)
	k.want(low < high, "imageGCLowThresholdPercent", "must be less than imageGCHighThresholdPercent (%d), got %d", high, low)
	youngest, oldest := c.ImageMinimumGCAge.Duration, c.ImageMaximumGCAge.Duration
	k.want(youngest >= 0, "imageMinimumGCAge", "must not be negative, got %s", youngest)
	k.want(oldest >= 0, "imageMaximumGCAge", "must not be negative, got %s", oldest)
	k.want(oldest <= 0 || oldest > youngest, "imageMaximumGCAge", "must be longer than imageMinimumGCAge (%s), got %s", youngest, oldest)
	c.validateEviction(k)
	k.want(!c.RunOnce, "runOnce", "is no longer supported, by the kubelet neither")
	k.want(c.BootstrapKubeconfig == "" || c.Kubeconfig != "", "--bootstrap-kubeconfig", "needs --kubeconfig, the file to write")
	k.want((c.ImageCredentialProviderConfig == "") == (c.ImageCredentialProviderBinDir == ""), "--image-credential-provider-config",
		"must be set together with --image-credential-provider-bin-dir")
}

func (c *Config) validateShutdown(k *checker) {
	all, critical := c.ShutdownGracePeriod.Duration, c.ShutdownGracePeriodCriticalPods.Duration
	k.want(all == 0 || all >= time.Second, "shutdownGracePeriod", "must be 0 or at least 1s, got %v", all)
	k.want(critical == 0 || critical >= time.Second, "shutdownGracePeriodCriticalPods", "must be 0 or at least 1s, got %v", critical)
	k.want(critical <= all, "shutdownGracePeriodCriticalPods", "must not be more than shutdownGracePeriod (%v), got %v", all, critical)
	k.want(len(c.ShutdownGracePeriodByPodPriority) == 0 || all == 0 && critical == 0, "shutdownGracePeriodByPodPriority", "cannot be set together with shutdownGracePeriod")
	for i, p := range c.ShutdownGracePeriodByPodPriority {
		between(k, fmt.Sprintf("shutdownGracePeriodByPodPriority[%d].shutdownGracePeriodSeconds", i), p.ShutdownGracePeriodSeconds, 0, int64(math.MaxInt32))
	}
}
