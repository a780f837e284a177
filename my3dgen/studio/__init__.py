"""The Gradio app: one file per tab, plain functions behind them, a registry of sessions beside them."""
