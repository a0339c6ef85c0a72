package config

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/blang/semver/v4"
	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	fieldpath "k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/component-base/featuregate"
	logsapi "k8s.io/component-base/logs/api/v1"
	metricsapi "k8s.io/component-base/metrics/api/v1"
	tracingapi "k8s.io/component-base/tracing/api/v1"
	"k8s.io/component-helpers/node/util/sysctl"
	kubeletapis "k8s.io/kubelet/pkg/apis"
	"k8s.io/utils/ptr"
)

// idsOfPod is what the number of user IDs of a pod is a multiple of.
const idsOfPod = 65536

// validateRare checks what few set, by the kubelet's rules and mostly with its own checks.
func (c *Config) validateRare(k *checker) {
	before := len(k.errs)
	c.validateGates(k)
	if len(k.errs) > before {
		return // the rest asks which features are on
	}
	gates := c.FeatureGate()
	k.fields(logsapi.Validate(&c.Logging, gates, fieldpath.NewPath("logging")))
	k.fields(tracingapi.ValidateTracingConfiguration(c.Tracing, gates, fieldpath.NewPath("tracing")))
	if version, err := semver.ParseTolerant(KubernetesVersion); err == nil {
		err = metricsapi.ValidateShowHiddenMetricsVersionForKubeletBackwardCompatOnly(version, c.ShowHiddenMetricsForVersion)
		k.want(err == nil, "showHiddenMetricsForVersion", "%v", err)
	}
	k.want(c.LockFile != "" || !c.ExitOnLockContention, "--exit-on-lock-contention", "cannot exit on lock file contention: no lock file specified")
	k.want(c.SystemCgroups == "" || c.CgroupRoot != "", "systemCgroups", "needs cgroupRoot (--cgroup-root)")
	k.want(!ptr.Deref(c.EnableSystemLogQuery, false) || *c.EnableSystemLogHandler, "enableSystemLogQuery", "enableSystemLogHandler is required for enableSystemLogQuery")
	if ns := c.UserNamespaces; ns != nil && ns.IDsPerPod != nil {
		n := *ns.IDsPerPod
		k.want(n >= idsOfPod && n%idsOfPod == 0 && n <= math.MaxUint32, "userNamespaces.idsPerPod", "must be a multiple of %d and not more than %d, got %d", idsOfPod, uint32(math.MaxUint32), n)
	}
	for _, name := range slices.Sorted(maps.Keys(c.QOSReserved)) {
		k.want(name == string(v1.ResourceMemory), "qosReserved", "cannot reserve %q: only memory", name)
		_, err := percentage(c.QOSReserved[name])
		k.want(err == nil, "qosReserved", "%s: %v", name, err)
	}
	between(k, "iptablesMasqueradeBit", *c.IPTablesMasqueradeBit, 0, 31)
	between(k, "iptablesDropBit", *c.IPTablesDropBit, 0, 31)
	c.validateDefaultSysctls(k, gates)
}

// validateLabelsAndTaints checks what the API server would refuse the node for.
func (c *Config) validateLabelsAndTaints(k *checker) {
	const labels = "--node-labels"
	for _, name := range slices.Sorted(maps.Keys(c.NodeLabels)) {
		problems := append(validation.IsQualifiedName(name), validation.IsValidLabelValue(c.NodeLabels[name])...)
		k.want(len(problems) == 0, labels, "%s=%s: %s", name, c.NodeLabels[name], strings.Join(problems, "; "))
		namespace, _, has := strings.Cut(name, "/")
		ofKubernetes := has && slices.ContainsFunc([]string{"kubernetes.io", "k8s.io"}, func(d string) bool { return namespace == d || strings.HasSuffix(namespace, "."+d) })
		k.want(!ofKubernetes || kubeletapis.IsKubeletLabel(name), labels, "%s: a node may not give itself this label of Kubernetes, only those of the namespaces %s, and %s",
			name, strings.Join(kubeletapis.KubeletLabelNamespaces(), " and "), strings.Join(kubeletapis.KubeletLabels(), ", "))
	}
	for i, t := range c.RegisterWithTaints {
		problems := validation.IsQualifiedName(t.Key)
		if t.Value != "" {
			problems = append(problems, validation.IsValidLabelValue(t.Value)...)
		}
		if !slices.Contains([]v1.TaintEffect{"", v1.TaintEffectNoSchedule, v1.TaintEffectPreferNoSchedule, v1.TaintEffectNoExecute}, t.Effect) {
			problems = append(problems, fmt.Sprintf("the effect %q is none of NoSchedule, PreferNoSchedule, NoExecute", t.Effect))
		}
		if t.TimeAdded != nil {
			problems = append(problems, "timeAdded cannot be set")
		}
		k.want(len(problems) == 0, fmt.Sprintf("registerWithTaints[%d]", i), "%s", strings.Join(problems, "; "))
	}
}

// fields takes in what the kubelet's checks of a component's configuration say.
func (k *checker) fields(list fieldpath.ErrorList) {
	for _, err := range list {
		k.want(false, strings.Split(err.Field, "[")[0], "%s", err.ErrorBody())
	}
}

// percentage reads "50%".
func percentage(s string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSuffix(s, "%"), 10, 64)
	if err != nil || !strings.HasSuffix(s, "%") || n < 0 || n > 100 {
		return 0, fmt.Errorf("want a percentage from 0%% to 100%%, got %q", s)
	}
	return n, nil
}

// sysctlName is how the API writes the name of a kernel parameter.
var sysctlName = regexp.MustCompile(`^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$`)

func (c *Config) validateDefaultSysctls(k *checker, gates featuregate.FeatureGate) {
	if len(c.DefaultPodSysctls) == 0 {
		return
	}
	if !gates.Enabled(DefaultPodSysctls) {
		k.want(false, "defaultPodSysctls", "DefaultPodSysctls feature gate is required for Kubelet configuration option defaultPodSysctls")
		return
	}
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(c.DefaultPodSysctls)) {
		if len(name) > 253 || !sysctlName.MatchString(name) {
			k.want(false, "defaultPodSysctls", "%q is not a valid sysctl name", name)
			continue
		}
		namespace, _, _ := sysctl.GetNamespace(name)
		k.want(namespace != sysctl.UnknownNamespace, "defaultPodSysctls", "%q is not known to be namespaced", name)
		normal := sysctl.NormalizeName(name)
		k.want(!seen[normal], "defaultPodSysctls", "has %q twice", normal)
		seen[normal] = true
	}
}

// rareWarnings names what was set and has no effect with what else is set, or on this agent.
func (c *Config) rareWarnings() []string {
	var list []string
	warn := func(path, why string) {
		if place, set := c.origins[path]; set {
			list = append(list, describe(place, path)+" "+why)
		}
	}
	if len(c.QOSReserved) > 0 {
		warn("qosReserved", "has no effect, as with a kubelet whose feature gate QOSReserved is off, which cannot be switched here")
	}
	if c.KubeReservedCgroup != "" && !strings.HasPrefix(c.KubeletCgroups, c.KubeReservedCgroup) {
		warn("kubeletCgroups", "is not within kubeReservedCgroup, whose limits are for the agent, too")
	}
	if c.MemoryThrottlingFactor != nil && !c.Enabled(MemoryQoS) {
		warn("memoryThrottlingFactor", "has no effect while MemoryQoS is off")
	}
	return list
}
