// Package reach is how the command line gets to a cluster's control plane: by the API server alone, with the rights that
// the user has there.
//
//	cp, err := reach.Open(ctx, reach.Options{Config: config, Namespace: "shop"})
//	for _, replica := range cp.Replicas() {
//		err := replica.Get(ctx, api.ProxiesPath, &proxies)
//	}
//
// Open reads the trust bundle (ConfigMap heddle-trust), asks for a token of ten minutes (TokenRequest on the ServiceAccount
// heddle-view), and lists the pods of the control plane. Get port-forwards to one, checks that its certificate is the
// control plane's, and sends the token to nobody else. No port is opened on the user's machine. What package api says
// on the other side is all that comes back.
package reach
