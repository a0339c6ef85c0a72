package record

import (
	"cmp"
	"slices"

	kubeletconfig "k8s.io/kubelet/config/v1beta1"

	"github.com/mini-kubelet/mini-kubelet/pkg/config/options"
	"github.com/mini-kubelet/mini-kubelet/pkg/runtime/image/keyring"
)

// answer is what the records alone say of a present image.
type answer string

const (
	open   answer = "every pod may use it"
	closed answer = "a pull must show who may use it"
	ask    answer = "it depends on the pod's credentials"
)

// decide goes by what is known of an image: its record, nil for none, and whether
// it is being pulled now or was when an agent died.
func decide(p *options.ImageVerification, image string, known *kubeletconfig.ImagePulledRecord, pulling bool) (answer, kubeletconfig.ImagePullCredentials) {
	var who kubeletconfig.ImagePullCredentials
	if !p.Verifies(image, known != nil || pulling) {
		return open, who
	}
	name, err := options.Repository(image)
	if known == nil || err != nil {
		return closed, who
	}
	who = known.CredentialMapping[name]
	switch {
	case who.NodePodsAccessible:
		return open, who
	case len(who.KubernetesSecrets)+len(who.KubernetesServiceAccounts) == 0:
		return closed, who
	}
	return ask, who
}

// matching returns the first of a pod's credentials with which the image was pulled
// before: the same login from any Secret, the same Secret with whatever login it
// has by now, or the same service account; nil if there is none.
func matching(who kubeletconfig.ImagePullCredentials, found []keyring.Credential) *keyring.Credential {
	for i := range found {
		c := &found[i]
		switch {
		case c.Secret != nil && slices.ContainsFunc(who.KubernetesSecrets, func(s kubeletconfig.ImagePullSecret) bool {
			return c.Hash != "" && s.CredentialHash == c.Hash || ofSecret(s) == *c.Secret
		}):
			return c
		case c.ServiceAccount != nil && slices.Contains(who.KubernetesServiceAccounts, account(c)):
			return c
		}
	}
	return nil
}

func ofSecret(s kubeletconfig.ImagePullSecret) keyring.Object {
	return keyring.Object{UID: s.UID, Namespace: s.Namespace, Name: s.Name}
}

func account(c *keyring.Credential) kubeletconfig.ImagePullServiceAccount {
	return kubeletconfig.ImagePullServiceAccount{UID: c.ServiceAccount.UID, Namespace: c.ServiceAccount.Namespace, Name: c.ServiceAccount.Name}
}

// add returns who, with a credential added that has pulled the image; nil is an
// anonymous pull. What the node itself can pull is open to all its pods, so the
// rest is then forgotten. It does not modify who.
func add(who kubeletconfig.ImagePullCredentials, used *keyring.Credential) (now kubeletconfig.ImagePullCredentials, changed bool) {
	switch {
	case who.NodePodsAccessible:
		return who, false
	case used == nil || used.Secret == nil && used.ServiceAccount == nil:
		return kubeletconfig.ImagePullCredentials{NodePodsAccessible: true}, true
	case used.Secret != nil:
		secret := kubeletconfig.ImagePullSecret{
			UID: used.Secret.UID, Namespace: used.Secret.Namespace, Name: used.Secret.Name, CredentialHash: used.Hash,
		}
		if slices.Contains(who.KubernetesSecrets, secret) {
			return who, false
		}
		secrets := slices.DeleteFunc(slices.Clone(who.KubernetesSecrets), func(s kubeletconfig.ImagePullSecret) bool { return ofSecret(s) == *used.Secret })
		who.KubernetesSecrets = append(secrets, secret)
		slices.SortFunc(who.KubernetesSecrets, func(a, b kubeletconfig.ImagePullSecret) int {
			return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
		})
		return who, true
	}
	if slices.Contains(who.KubernetesServiceAccounts, account(used)) {
		return who, false
	}
	who.KubernetesServiceAccounts = append(slices.Clone(who.KubernetesServiceAccounts), account(used))
	slices.SortFunc(who.KubernetesServiceAccounts, func(a, b kubeletconfig.ImagePullServiceAccount) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.UID, b.UID))
	})
	return who, true
}
