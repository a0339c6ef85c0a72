package agent

import (
	"context"
	"fmt"
	"os"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/klog/v2"

	"github.com/mini-kubelet/mini-kubelet/pkg/cluster/podobjects"
	"github.com/mini-kubelet/mini-kubelet/pkg/config"
	"github.com/mini-kubelet/mini-kubelet/pkg/journal"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/criclient"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image/keyring"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image/provider"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image/record"
)

// newImages makes what pulls images, with all the credentials that there are, and
// the part that looks after the records of pulls.
func newImages(cfg *config.Config, client *criclient.Client, secrets podObjects, api *cluster, events *journal.Journal) (*image.Manager, part, error) {
	policy, err := record.NewPolicy(cfg.ImagePullCredentialsVerificationPolicy, cfg.PreloadedImagesVerificationAllowlist)
	if err != nil {
		return nil, part{}, fmt.Errorf("imagePullCredentialsVerificationPolicy: %w", err)
	}
	records, err := record.Open(cfg.RootDir, policy)
	if err != nil {
		return nil, part{}, err
	}
	keys, err := newKeyring(cfg, secrets, api, events)
	if err != nil {
		return nil, part{}, err
	}
	images, err := image.New(image.Config{
		Images: client, Journal: events, Keyring: keys, Records: records,
		Serialize: *cfg.SerializeImagePulls, MaxParallel: int(deref(cfg.MaxParallelImagePulls, 0)),
		QPS: float32(deref(cfg.RegistryPullQPS, 0)), Burst: int(cfg.RegistryBurst),
	})
	return images, part{"image records", func(ctx context.Context) error {
		// Pods need not wait: what is not known is not open.
		if err := records.Recover(ctx, client); err != nil && ctx.Err() == nil {
			klog.ErrorS(err, "Could not find out what became of earlier image pulls; such images are pulled again")
		}
		return nil
	}}, err
}

// newKeyring joins the places that have credentials, in the kubelet's order.
func newKeyring(cfg *config.Config, secrets podObjects, api *cluster, events *journal.Journal) (keyring.Keyring, error) {
	k := keyring.Keyring{&keyring.Secrets{Objects: secrets, Journal: events}}
	// Either may be unknown, which leaves out its places.
	home, _ := os.UserHomeDir()
	work, _ := os.Getwd()
	k = append(k, keyring.NewFiles(cfg.RootDir, work, home))
	if cfg.ImageCredentialProviderConfig == "" {
		return k, nil
	}
	c := provider.Config{ConfigPath: cfg.ImageCredentialProviderConfig, BinDir: cfg.ImageCredentialProviderBinDir}
	if api != nil {
		c.Tokens = accounts{api.tokens, api.client.CoreV1()}
	}
	plugins, err := provider.New(c)
	if err != nil {
		return nil, err
	}
	return append(k, plugins), nil
}

// accounts are the service accounts that credential providers are asked for.
type accounts struct {
	*podobjects.Tokens
	api core.CoreV1Interface
}

// ServiceAccount implements provider.Tokens.
func (a accounts) ServiceAccount(ctx context.Context, namespace, name string) (*v1.ServiceAccount, error) {
	return a.api.ServiceAccounts(namespace).Get(ctx, name, metav1.GetOptions{})
}
