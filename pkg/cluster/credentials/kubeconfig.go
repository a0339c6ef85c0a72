package credentials

import (
	"crypto/tls"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"reflect"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/mini-kubelet/mini-kubelet/pkg/base/durable"
)

// load reads a kubeconfig's current context. For a missing file the error is
// fs.ErrNotExist.
func load(path string) (*rest.Config, error) {
	if path == "" {
		return nil, fs.ErrNotExist
	}
	file, err := clientcmd.LoadFromFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := clientcmd.ResolveLocalPaths(file); err != nil {
		return nil, err
	}
	cfg, err := clientcmd.NewDefaultClientConfig(*file, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return cfg, nil
}

// pair is the client certificate of a kubeconfig with its key, nil if it has none.
func pair(cfg *rest.Config) (certPEM, keyPEM []byte) {
	certPEM, keyPEM = cfg.CertData, cfg.KeyData
	if len(certPEM) == 0 && cfg.CertFile != "" {
		certPEM, _ = os.ReadFile(cfg.CertFile)
	}
	if len(keyPEM) == 0 && cfg.KeyFile != "" {
		keyPEM, _ = os.ReadFile(cfg.KeyFile)
	}
	if len(certPEM) == 0 || len(keyPEM) == 0 {
		return nil, nil
	}
	return certPEM, keyPEM
}

// certificateValid reports whether a kubeconfig's client certificate can be used now.
func certificateValid(cfg *rest.Config) bool {
	cert, err := tls.X509KeyPair(pair(cfg))
	return err == nil && unexpired(&cert)
}

// kubeconfigOf is the kubeconfig of a node whose certificate and key are in the
// file pem, in the form in which the kubelet writes it.
func kubeconfigOf(base *rest.Config, pem string) *clientcmdapi.Config {
	cluster := &clientcmdapi.Cluster{
		Server: base.Host + base.APIPath, InsecureSkipTLSVerify: base.Insecure, TLSServerName: base.ServerName,
		CertificateAuthority: base.CAFile,
	}
	if base.CAFile == "" {
		cluster.CertificateAuthorityData = base.CAData
	}
	if base.Proxy != nil {
		// The kubeconfig's proxy-url, which is the same for every request.
		if proxy, err := base.Proxy(&http.Request{}); err == nil && proxy != nil {
			cluster.ProxyURL = proxy.String()
		}
	}
	return &clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"default-cluster": cluster},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"default-auth": {ClientCertificate: pem, ClientKey: pem}},
		Contexts:       map[string]*clientcmdapi.Context{"default-context": {Cluster: "default-cluster", AuthInfo: "default-auth", Namespace: "default"}},
		CurrentContext: "default-context",
	}
}

// writeKubeconfig writes the file as a whole or not at all, and only if its content
// changes.
func writeKubeconfig(path string, cfg *clientcmdapi.Config) error {
	if have, err := clientcmd.LoadFromFile(path); err == nil {
		for _, a := range have.AuthInfos {
			for _, b := range cfg.AuthInfos {
				if a.ClientCertificate == b.ClientCertificate && len(a.ClientCertificateData) == 0 && sameCluster(have, cfg) {
					return nil
				}
			}
		}
	}
	text, err := clientcmd.Write(*cfg)
	if err != nil {
		return err
	}
	return durable.Write(path, text)
}

func sameCluster(a, b *clientcmdapi.Config) bool {
	strip := func(c *clientcmdapi.Config) clientcmdapi.Cluster {
		for _, cluster := range c.Clusters {
			bare := *cluster
			bare.LocationOfOrigin, bare.Extensions = "", nil
			return bare
		}
		return clientcmdapi.Cluster{}
	}
	return reflect.DeepEqual(strip(a), strip(b))
}
