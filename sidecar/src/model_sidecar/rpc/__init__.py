"""The gRPC room: predictions, orders, health and reflection over sockets. Nothing else in the sidecar knows gRPC."""
