# An image for JupyterHub, in which the chapters open as notebooks:
#
#     docker build -t emdn . && docker run --rm -p 8888:8888 emdn
FROM quay.io/jupyter/base-notebook:python-3.11
COPY --chown=${NB_UID}:${NB_GID} . ${HOME}/emdn
RUN pip install --no-cache-dir "${HOME}/emdn[baselines,book]"
WORKDIR ${HOME}/emdn/notebooks
