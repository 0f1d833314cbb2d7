# An image for JupyterHub, in which the book's pages open as notebooks:
#
#     docker build -t emdn . && docker run --rm -p 8888:8888 emdn
FROM quay.io/jupyter/base-notebook:python-3.11
COPY --chown=${NB_UID}:${NB_GID} . /tmp/emdn
RUN pip install --no-cache-dir "/tmp/emdn[baselines,book]" && \
    cp -r /tmp/emdn/book "${HOME}/book" && \
    rm -rf /tmp/emdn
WORKDIR ${HOME}/book
