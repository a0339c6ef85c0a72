package manifest

import (
	"fmt"
	"path"
	"slices"
	"strings"

	v1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mini-kubelet/mini-kubelet/pkg/pods"
)

// containerSet holds what the containers of a pod must not share, and what they
// use.
type containerSet struct {
	pod       *v1.PodSpec
	volumes   map[string]*v1.Volume
	names     sets.Set[string]
	hostPorts sets.Set[string]
}

func validateContainers(s *v1.PodSpec, volumes map[string]*v1.Volume, path *field.Path) field.ErrorList {
	all := containerSet{pod: s, volumes: volumes, names: sets.New[string](), hostPorts: sets.New[string]()}
	var errs field.ErrorList
	if len(s.Containers) == 0 {
		errs = append(errs, field.Required(path.Child("containers"), ""))
	}
	for i := range s.Containers {
		errs = append(errs, all.validate(&s.Containers[i], path.Child("containers").Index(i), false)...)
	}
	for i := range s.InitContainers {
		errs = append(errs, all.validate(&s.InitContainers[i], path.Child("initContainers").Index(i), true)...)
	}
	return errs
}

func (s *containerSet) validate(c *v1.Container, path *field.Path, init bool) field.ErrorList {
	var errs field.ErrorList
	if c.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	} else {
		errs = append(errs, nameErrors(validation.IsDNS1123Label(c.Name), c.Name, path.Child("name"))...)
		errs = append(errs, unique(s.names, c.Name, path.Child("name"))...)
	}
	switch {
	case c.Image == "":
		errs = append(errs, field.Required(path.Child("image"), ""))
	case len(c.Image) != len(strings.TrimSpace(c.Image)):
		errs = append(errs, field.Invalid(path.Child("image"), c.Image, "must not have leading or trailing whitespace"))
	}
	errs = append(errs, oneOf(c.ImagePullPolicy, path.Child("imagePullPolicy"), v1.PullAlways, v1.PullIfNotPresent, v1.PullNever)...)
	errs = append(errs, oneOf(c.TerminationMessagePolicy, path.Child("terminationMessagePolicy"), v1.TerminationMessageReadFile, v1.TerminationMessageFallbackToLogsOnError)...)
	errs = append(errs, s.validatePorts(c.Ports, path.Child("ports"))...)
	errs = append(errs, validateEnv(c, path)...)
	errs = append(errs, s.validateFileKeyVolumes(c, path.Child("env"))...)
	errs = append(errs, s.validateMounts(c, path)...)
	errs = append(errs, validateRequirements(&c.Resources, path.Child("resources"))...)
	errs = append(errs, s.validateResizePolicy(c, path.Child("resizePolicy"), init)...)
	errs = append(errs, validateContainerSecurity(c.SecurityContext, path.Child("securityContext"))...)
	if sc := c.SecurityContext; sc != nil && sc.ProcMount != nil && *sc.ProcMount == v1.UnmaskedProcMount && (s.pod.HostUsers == nil || *s.pod.HostUsers) {
		errs = append(errs, field.Invalid(path.Child("securityContext", "procMount"), *sc.ProcMount, "`hostUsers` must be false to use `Unmasked`"))
	}
	restartable := pods.IsSidecar(c)
	errs = append(errs, validateRestart(c, path)...)
	if init && !restartable {
		for name, set := range map[string]bool{
			"lifecycle": c.Lifecycle != nil, "livenessProbe": c.LivenessProbe != nil,
			"readinessProbe": c.ReadinessProbe != nil, "startupProbe": c.StartupProbe != nil,
		} {
			if set {
				errs = append(errs, field.Forbidden(path.Child(name), "may not be set for init containers without restartPolicy=Always"))
			}
		}
		return errs
	}
	errs = append(errs, validateLifecycle(c.Lifecycle, s.pod, path.Child("lifecycle"))...)
	errs = append(errs, validateProbe(c.LivenessProbe, path.Child("livenessProbe"), true)...)
	errs = append(errs, validateProbe(c.StartupProbe, path.Child("startupProbe"), true)...)
	errs = append(errs, validateProbe(c.ReadinessProbe, path.Child("readinessProbe"), false)...)
	if p := c.ReadinessProbe; p != nil && p.TerminationGracePeriodSeconds != nil {
		errs = append(errs, field.Invalid(path.Child("readinessProbe", "terminationGracePeriodSeconds"), *p.TerminationGracePeriodSeconds, "must not be set for readinessProbes"))
	}
	return errs
}

func (s *containerSet) validatePorts(ports []v1.ContainerPort, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names := sets.New[string]()
	for i := range ports {
		p, at := &ports[i], path.Index(i)
		if p.Name != "" {
			if messages := validation.IsValidPortName(p.Name); len(messages) > 0 {
				errs = append(errs, nameErrors(messages, p.Name, at.Child("name"))...)
			} else {
				errs = append(errs, unique(names, p.Name, at.Child("name"))...)
			}
		}
		if p.ContainerPort == 0 {
			errs = append(errs, field.Required(at.Child("containerPort"), ""))
		} else {
			errs = append(errs, portErrors(int(p.ContainerPort), at.Child("containerPort"))...)
		}
		errs = append(errs, oneOf(p.Protocol, at.Child("protocol"), v1.ProtocolTCP, v1.ProtocolUDP, v1.ProtocolSCTP)...)
		if p.HostPort == 0 {
			continue
		}
		errs = append(errs, portErrors(int(p.HostPort), at.Child("hostPort"))...)
		if s.pod.HostNetwork && p.HostPort != p.ContainerPort {
			errs = append(errs, field.Invalid(at.Child("hostPort"), p.HostPort, "must match `containerPort` when `hostNetwork` is true"))
		}
		errs = append(errs, unique(s.hostPorts, fmt.Sprintf("%s/%s/%d", p.Protocol, p.HostIP, p.HostPort), at.Child("hostPort"))...)
	}
	return errs
}

func portErrors(port int, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, m := range validation.IsValidPortNum(port) {
		errs = append(errs, field.Invalid(path, port, m))
	}
	return errs
}

// envFields are the fields of the pod that an environment variable may use.
var envFields = []string{"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"}

func validateEnv(c *v1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for i := range c.Env {
		e, at := &c.Env[i], path.Child("env").Index(i)
		if e.Name == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		} else {
			errs = append(errs, nameErrors(validation.IsRelaxedEnvVarName(e.Name), e.Name, at.Child("name"))...)
		}
		if e.ValueFrom != nil {
			errs = append(errs, validateEnvSource(e, at.Child("valueFrom"))...)
		}
	}
	for i := range c.EnvFrom {
		f, at := &c.EnvFrom[i], path.Child("envFrom").Index(i)
		if f.Prefix != "" {
			errs = append(errs, nameErrors(validation.IsRelaxedEnvVarName(f.Prefix), f.Prefix, at.Child("prefix"))...)
		}
		if r := f.ConfigMapRef; r != nil {
			errs = append(errs, objectName(r.Name, at.Child("configMapRef", "name"))...)
		}
		if r := f.SecretRef; r != nil {
			errs = append(errs, objectName(r.Name, at.Child("secretRef", "name"))...)
		}
		switch {
		case f.ConfigMapRef != nil && f.SecretRef != nil:
			errs = append(errs, field.Invalid(at, "", "may not have more than one field specified at a time"))
		case f.ConfigMapRef == nil && f.SecretRef == nil:
			errs = append(errs, field.Invalid(at, "", "must specify one of: `configMapRef` or `secretRef`"))
		}
	}
	return errs
}

func validateEnvSource(e *v1.EnvVar, path *field.Path) field.ErrorList {
	from := e.ValueFrom
	var errs field.ErrorList
	n := 0
	if f := from.FieldRef; f != nil {
		n++
		errs = append(errs, validateFieldRef(f, envFields, path.Child("fieldRef"))...)
	}
	if r := from.ResourceFieldRef; r != nil {
		n++
		errs = append(errs, validateResourceField(r, path.Child("resourceFieldRef"))...)
	}
	if r := from.ConfigMapKeyRef; r != nil {
		n++
		errs = append(errs, nameErrors(apivalidation.NameIsDNSSubdomain(r.Name, false), r.Name, path.Child("configMapKeyRef", "name"))...)
		errs = append(errs, keyErrors(r.Key, path.Child("configMapKeyRef", "key"))...)
	}
	if r := from.SecretKeyRef; r != nil {
		n++
		errs = append(errs, nameErrors(apivalidation.NameIsDNSSubdomain(r.Name, false), r.Name, path.Child("secretKeyRef", "name"))...)
		errs = append(errs, keyErrors(r.Key, path.Child("secretKeyRef", "key"))...)
	}
	if r := from.FileKeyRef; r != nil {
		n++
		errs = append(errs, validateFileKey(r, path.Child("fileKeyRef"))...)
	}
	switch {
	case e.Value != "":
		errs = append(errs, field.Invalid(path, "", "may not be specified when `value` is not empty"))
	case n == 0:
		errs = append(errs, field.Invalid(path, "", "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"))
	case n > 1:
		errs = append(errs, field.Invalid(path, "", "may not have more than one field specified at a time"))
	}
	return errs
}

// objectName refuses what cannot be the name of a ConfigMap or Secret.
func objectName(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return nameErrors(apivalidation.NameIsDNSSubdomain(name, true), name, path)
}

func keyErrors(key string, path *field.Path) field.ErrorList {
	if key == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return nameErrors(validation.IsConfigMapKey(key), key, path)
}

func validateFieldRef(f *v1.ObjectFieldSelector, allowed []string, path *field.Path) field.ErrorList {
	switch {
	case f.APIVersion == "":
		return field.ErrorList{field.Required(path.Child("apiVersion"), "")}
	case f.FieldPath == "":
		return field.ErrorList{field.Required(path.Child("fieldPath"), "")}
	case f.APIVersion != "v1":
		return field.ErrorList{field.Invalid(path.Child("fieldPath"), f.FieldPath, "error converting fieldPath: unsupported pod version: "+f.APIVersion)}
	case subscripted(f.FieldPath, "metadata.annotations"), subscripted(f.FieldPath, "metadata.labels"), slices.Contains(allowed, f.FieldPath):
		return nil
	}
	return field.ErrorList{field.NotSupported(path.Child("fieldPath"), f.FieldPath, allowed)}
}

func subscripted(path, of string) bool {
	key, ok := strings.CutPrefix(path, of+"['")
	return ok && strings.HasSuffix(key, "']") && len(key) > 2
}

func (s *containerSet) validateMounts(c *v1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	points := sets.New[string]()
	for i := range c.VolumeMounts {
		m, at := &c.VolumeMounts[i], path.Child("volumeMounts").Index(i)
		switch {
		case m.Name == "":
			errs = append(errs, field.Required(at.Child("name"), ""))
		case s.volumes[m.Name] == nil:
			errs = append(errs, field.NotFound(at.Child("name"), m.Name))
		}
		if m.MountPath == "" {
			errs = append(errs, field.Required(at.Child("mountPath"), ""))
		}
		if points.Has(m.MountPath) {
			errs = append(errs, field.Invalid(at.Child("mountPath"), m.MountPath, "must be unique"))
		}
		points.Insert(m.MountPath)
		if m.SubPath != "" {
			errs = append(errs, validateSubPath(m.SubPath, at.Child("subPath"))...)
		}
		if m.SubPathExpr != "" {
			if m.SubPath != "" {
				errs = append(errs, field.Invalid(at.Child("subPathExpr"), m.SubPathExpr, "subPathExpr and subPath are mutually exclusive"))
			}
			errs = append(errs, validateSubPath(m.SubPathExpr, at.Child("subPathExpr"))...)
		}
		errs = append(errs, validatePropagation(m, c, at)...)
	}
	return append(errs, s.validateDevices(c, path.Child("volumeDevices"))...)
}

// validateDevices checks a container's raw block devices, which it may not also have
// mounted.
func (s *containerSet) validateDevices(c *v1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	names, paths := sets.New[string](), sets.New[string]()
	mounted, points := sets.New[string](), sets.New[string]()
	for i := range c.VolumeMounts {
		mounted.Insert(c.VolumeMounts[i].Name)
		points.Insert(c.VolumeMounts[i].MountPath)
	}
	for i, d := range c.VolumeDevices {
		name, at := path.Index(i).Child("name"), path.Index(i).Child("devicePath")
		switch v := s.volumes[d.Name]; {
		case d.Name == "":
			errs = append(errs, field.Required(name, ""))
		case v == nil:
			errs = append(errs, field.NotFound(name, d.Name))
		case v.PersistentVolumeClaim == nil && v.Ephemeral == nil:
			errs = append(errs, field.Invalid(name, d.Name, "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"))
		case names.Has(d.Name):
			errs = append(errs, field.Invalid(name, d.Name, "must be unique"))
		}
		switch {
		case d.DevicePath == "":
			errs = append(errs, field.Required(at, ""))
		case climbs(d.DevicePath):
			errs = append(errs, field.Invalid(at, d.DevicePath, "can not contain backsteps ('..')"))
		case paths.Has(d.DevicePath):
			errs = append(errs, field.Invalid(at, d.DevicePath, "must be unique"))
		}
		names.Insert(d.Name)
		paths.Insert(d.DevicePath)
		if mounted.Has(d.Name) {
			errs = append(errs, field.Invalid(name, d.Name, "must not already exist in volumeMounts"))
		}
		if points.Has(d.DevicePath) {
			errs = append(errs, field.Invalid(at, d.DevicePath, "must not already exist as a path in volumeMounts"))
		}
	}
	return errs
}

func validatePropagation(m *v1.VolumeMount, c *v1.Container, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if p := m.MountPropagation; p != nil {
		errs = append(errs, oneOf(*p, path.Child("mountPropagation"), v1.MountPropagationBidirectional, v1.MountPropagationHostToContainer, v1.MountPropagationNone)...)
		privileged := c.SecurityContext != nil && c.SecurityContext.Privileged != nil && *c.SecurityContext.Privileged
		if *p == v1.MountPropagationBidirectional && !privileged {
			errs = append(errs, field.Forbidden(path.Child("mountPropagation"), "Bidirectional mount propagation is available only to privileged containers"))
		}
	}
	r := m.RecursiveReadOnly
	if r == nil || *r == v1.RecursiveReadOnlyDisabled {
		return errs
	}
	at := path.Child("recursiveReadOnly")
	errs = append(errs, oneOf(*r, at, v1.RecursiveReadOnlyDisabled, v1.RecursiveReadOnlyIfPossible, v1.RecursiveReadOnlyEnabled)...)
	if !m.ReadOnly {
		errs = append(errs, field.Forbidden(at, "may only be specified when readOnly is true"))
	}
	if m.MountPropagation != nil && *m.MountPropagation != v1.MountPropagationNone {
		errs = append(errs, field.Forbidden(at, "may only be specified when mountPropagation is None or not specified"))
	}
	return errs
}

// validateSubPath refuses paths that are absolute or lead up.
func validateSubPath(p string, at *field.Path) field.ErrorList {
	if path.IsAbs(p) {
		return field.ErrorList{field.Invalid(at, p, "must be a relative path")}
	}
	if climbs(p) {
		return field.ErrorList{field.Invalid(at, p, "must not contain '..'")}
	}
	return nil
}

// handler is what a probe or a hook does; one field is set.
type handler struct {
	exec  *v1.ExecAction
	http  *v1.HTTPGetAction
	tcp   *v1.TCPSocketAction
	grpc  *v1.GRPCAction
	sleep *v1.SleepAction
}

func validateHandler(h handler, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	n := 0
	another := func(name string) {
		if n++; n > 1 {
			errs = append(errs, field.Forbidden(path.Child(name), "may not specify more than 1 handler type"))
		}
	}
	if h.exec != nil {
		another("exec")
		if len(h.exec.Command) == 0 {
			errs = append(errs, field.Required(path.Child("exec", "command"), ""))
		}
	}
	if a := h.http; a != nil {
		another("httpGet")
		at := path.Child("httpGet")
		if a.Path == "" {
			errs = append(errs, field.Required(at.Child("path"), ""))
		}
		errs = append(errs, portOrName(a.Port, at.Child("port"))...)
		errs = append(errs, oneOf(a.Scheme, at.Child("scheme"), v1.URISchemeHTTP, v1.URISchemeHTTPS)...)
		for i, header := range a.HTTPHeaders {
			errs = append(errs, nameErrors(validation.IsHTTPHeaderName(header.Name), header.Name, at.Child("httpHeaders").Index(i).Child("name"))...)
		}
	}
	if h.tcp != nil {
		another("tcpSocket")
		errs = append(errs, portOrName(h.tcp.Port, path.Child("tcpSocket", "port"))...)
	}
	if h.grpc != nil {
		another("grpc")
		errs = append(errs, portErrors(int(h.grpc.Port), path.Child("grpc", "port"))...)
	}
	if h.sleep != nil {
		another("sleep")
	}
	if n == 0 {
		errs = append(errs, field.Required(path, "must specify a handler type"))
	}
	return errs
}

func portOrName(p intstr.IntOrString, path *field.Path) field.ErrorList {
	if p.Type == intstr.Int {
		return portErrors(p.IntValue(), path)
	}
	return nameErrors(validation.IsValidPortName(p.StrVal), p.StrVal, path)
}

func validateProbe(p *v1.Probe, path *field.Path, once bool) field.ErrorList {
	if p == nil {
		return nil
	}
	errs := validateHandler(handler{p.Exec, p.HTTPGet, p.TCPSocket, p.GRPC, nil}, path)
	for name, value := range map[string]int32{
		"initialDelaySeconds": p.InitialDelaySeconds, "timeoutSeconds": p.TimeoutSeconds, "periodSeconds": p.PeriodSeconds,
		"successThreshold": p.SuccessThreshold, "failureThreshold": p.FailureThreshold,
	} {
		if value < 0 {
			errs = append(errs, field.Invalid(path.Child(name), value, "must be greater than or equal to 0"))
		}
	}
	if once && p.SuccessThreshold != 1 {
		errs = append(errs, field.Invalid(path.Child("successThreshold"), p.SuccessThreshold, "must be 1"))
	}
	if g := p.TerminationGracePeriodSeconds; g != nil && *g <= 0 {
		errs = append(errs, field.Invalid(path.Child("terminationGracePeriodSeconds"), *g, "must be greater than 0"))
	}
	return errs
}
