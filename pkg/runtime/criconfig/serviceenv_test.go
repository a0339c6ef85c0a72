package criconfig

import (
	"maps"
	"slices"
	"strings"
	"testing"

	v1 "k8s.io/api/core/v1"
)

func service(namespace, name, ip string, ports ...v1.ServicePort) *v1.Service {
	s := &v1.Service{}
	s.Namespace, s.Name, s.Spec.ClusterIP, s.Spec.Ports = namespace, name, ip, ports
	return s
}

func TestServiceEnv(t *testing.T) {
	yes, no := true, false
	api := service("default", "kubernetes", "10.96.0.1", v1.ServicePort{Name: "https", Port: 443, Protocol: v1.ProtocolTCP})
	const ofAPI = "KUBERNETES_PORT=tcp://10.96.0.1:443 KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443 KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1 KUBERNETES_PORT_443_TCP_PORT=443 KUBERNETES_PORT_443_TCP_PROTO=tcp " +
		"KUBERNETES_SERVICE_HOST=10.96.0.1 KUBERNETES_SERVICE_PORT=443 KUBERNETES_SERVICE_PORT_HTTPS=443"
	port := v1.ServicePort{Port: 80}
	for name, tt := range map[string]struct {
		links    *bool
		services []*v1.Service
		want     string
	}{
		"none":                                   {},
		"the API server's, without links":        {&no, []*v1.Service{service("ns", "shop", "10.0.0.1", port), api, service("default", "other", "10.0.0.9", port)}, ofAPI},
		"the API server's, with links":           {&yes, []*v1.Service{api}, ofAPI},
		"links are the default":                  {nil, []*v1.Service{service("ns", "a", "1.1.1.1", port)}, "A_PORT=tcp://1.1.1.1:80 A_PORT_80_TCP=tcp://1.1.1.1:80 A_PORT_80_TCP_ADDR=1.1.1.1 A_PORT_80_TCP_PORT=80 A_PORT_80_TCP_PROTO=tcp A_SERVICE_HOST=1.1.1.1 A_SERVICE_PORT=80"},
		"of other namespaces none":               {&yes, []*v1.Service{service("other", "shop", "10.0.0.1", port), service("other", "kubernetes", "10.0.0.1", port)}, ""},
		"without an address none":                {&yes, []*v1.Service{service("ns", "headless", "None", port), service("ns", "external", "", port)}, ""},
		"without a port none":                    {&yes, []*v1.Service{service("ns", "odd", "10.0.0.1")}, ""},
		"an own kubernetes, whichever is first":  {&yes, []*v1.Service{service("ns", "kubernetes", "2.2.2.2", v1.ServicePort{Name: "https", Port: 443}), api}, strings.ReplaceAll(ofAPI, "10.96.0.1", "2.2.2.2")},
		"an own kubernetes, whichever is second": {&yes, []*v1.Service{api, service("ns", "kubernetes", "2.2.2.2", v1.ServicePort{Name: "https", Port: 443})}, strings.ReplaceAll(ofAPI, "10.96.0.1", "2.2.2.2")},
		"names, ports, protocols, IPv6": {&yes, []*v1.Service{service("ns", "my-shop.v1", "fd00::1", v1.ServicePort{Name: "dns-udp", Port: 53, Protocol: v1.ProtocolUDP}, v1.ServicePort{Name: "q", Port: 7, Protocol: v1.ProtocolSCTP})},
			"MY_SHOP.V1_PORT=udp://[fd00::1]:53 MY_SHOP.V1_PORT_53_UDP=udp://[fd00::1]:53 MY_SHOP.V1_PORT_53_UDP_ADDR=fd00::1 MY_SHOP.V1_PORT_53_UDP_PORT=53 MY_SHOP.V1_PORT_53_UDP_PROTO=udp " +
				"MY_SHOP.V1_PORT_7_SCTP=sctp://[fd00::1]:7 MY_SHOP.V1_PORT_7_SCTP_ADDR=fd00::1 MY_SHOP.V1_PORT_7_SCTP_PORT=7 MY_SHOP.V1_PORT_7_SCTP_PROTO=sctp " +
				"MY_SHOP.V1_SERVICE_HOST=fd00::1 MY_SHOP.V1_SERVICE_PORT=53 MY_SHOP.V1_SERVICE_PORT_DNS_UDP=53 MY_SHOP.V1_SERVICE_PORT_Q=7"},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &v1.Pod{}
			pod.Namespace, pod.Spec.EnableServiceLinks = "ns", tt.links
			env := ServiceEnv(pod, tt.services)
			var got []string
			for _, k := range slices.Sorted(maps.Keys(env)) {
				got = append(got, k+"="+env[k])
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("got  %s\nwant %s", strings.Join(got, " "), tt.want)
			}
		})
	}
}
