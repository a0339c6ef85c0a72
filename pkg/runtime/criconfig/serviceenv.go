package criconfig

import (
	"net"
	"strconv"
	"strings"

	v1 "k8s.io/api/core/v1"
)

// The service of the API server, whose variables every pod gets: with them clients
// in pods find the server.
const (
	masterNamespace = v1.NamespaceDefault
	masterService   = "kubernetes"
)

// ServiceEnv returns the service variables of the pod's containers, by the kubelet's
// rules: always those of the API server's service, and those of the other services
// in the pod's namespace unless the pod wants no service links. Services without an
// address of their own give none. services may contain those of any namespace.
func ServiceEnv(pod *v1.Pod, services []*v1.Service) map[string]string {
	links := pod.Spec.EnableServiceLinks == nil || *pod.Spec.EnableServiceLinks
	chosen := map[string]*v1.Service{}
	for _, s := range services {
		switch {
		case s.Spec.ClusterIP == "" || s.Spec.ClusterIP == v1.ClusterIPNone:
		case s.Namespace == pod.Namespace && links:
			chosen[s.Name] = s // also instead of the API server's, if it has the same name
		case s.Namespace == masterNamespace && s.Name == masterService && chosen[s.Name] == nil:
			chosen[s.Name] = s
		}
	}
	env := map[string]string{}
	for _, s := range chosen {
		addService(env, s)
	}
	return env
}

// ServiceNamespaces returns the namespaces whose services ServiceEnv looks at.
func ServiceNamespaces(pod *v1.Pod) []string {
	if pod.Namespace == masterNamespace {
		return []string{masterNamespace}
	}
	return []string{pod.Namespace, masterNamespace}
}

// addService adds the variables of one service, including those with which Docker
// once linked containers.
func addService(env map[string]string, s *v1.Service) {
	if len(s.Spec.Ports) == 0 {
		return
	}
	prefix, ip := variable(s.Name), s.Spec.ClusterIP
	env[prefix+"_SERVICE_HOST"] = ip
	env[prefix+"_SERVICE_PORT"] = strconv.Itoa(int(s.Spec.Ports[0].Port))
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		port, protocol := strconv.Itoa(int(p.Port)), string(p.Protocol)
		if protocol == "" {
			protocol = string(v1.ProtocolTCP)
		}
		if p.Name != "" {
			env[prefix+"_SERVICE_PORT_"+variable(p.Name)] = port
		}
		address := strings.ToLower(protocol) + "://" + net.JoinHostPort(ip, port)
		if i == 0 {
			env[prefix+"_PORT"] = address
		}
		link := prefix + "_PORT_" + port + "_" + strings.ToUpper(protocol)
		env[link] = address
		env[link+"_PROTO"] = strings.ToLower(protocol)
		env[link+"_PORT"] = port
		env[link+"_ADDR"] = ip
	}
}

// variable returns a service's or port's name as it appears in a variable's name.
func variable(name string) string { return strings.ToUpper(strings.ReplaceAll(name, "-", "_")) }
