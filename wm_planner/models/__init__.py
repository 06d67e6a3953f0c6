"""World models: encoder, embeddings, predictor, decoder, and the bundle that travels to a robot."""
